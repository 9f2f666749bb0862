//! A model on the server: made, moved, saved, given up; and how its gradients are divided.

use serde::Deserialize;
use serde_json::{Value, json};

use super::protocol::{self, Datum, Loss};
use super::session::Session;
use super::{Adam, Reduction, TinkerError, TinkerOptions, version_of};
use crate::{Completion, TokenId, Trace};

/// That the server has the model.
pub(super) fn check(session: &Session, expected: &str) -> Result<(), TinkerError> {
    #[derive(Deserialize)]
    struct Capabilities {
        supported_models: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        model_name: String,
    }
    let route = "get_server_capabilities";
    let Capabilities { supported_models: models } =
        protocol::parse(session.get(route)?).map_err(|reason| session.unreadable(route, reason))?;
    let found: Vec<String> = models.into_iter().map(|model| model.model_name).collect();
    if found.iter().any(|name| name == expected) {
        return Ok(());
    }
    Err(TinkerError::OtherModel { endpoint: session.address().to_string(), found, expected: expected.to_owned() })
}

/// Makes adapters on the base; gives the model's name.
pub(super) fn create(session: &Session, options: &TinkerOptions) -> Result<String, TinkerError> {
    #[derive(Deserialize)]
    struct Answer {
        model_id: String,
    }
    let body = json!({
        "session_id": session.id(),
        "base_model": options.base_model,
        "lora_config": { "rank": options.rank, "seed": options.seed },
        "model_seq_id": session.next_seq(),
        "type": "create_model",
    });
    let answer = session.call("create_model", &body)?;
    let Answer { model_id } = protocol::parse(answer).map_err(|reason| session.unreadable("create_model", reason))?;
    Ok(model_id)
}

/// Frees a model's memory on the server; a server that cannot forgets it with the session.
pub(super) fn unload(session: &Session, model: &str) {
    let _ = session.tell("unload_model", &json!({ "model_id": model, "type": "unload_model" }));
}

/// Moves the weights; gives the gradient's norm, where the server tells it.
pub(super) fn optim_step(session: &Session, model: &str, rate: f64, adam: Adam) -> Result<Option<f64>, TinkerError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        metrics: Option<serde_json::Map<String, Value>>,
    }
    let mut params = json!(adam);
    params["learning_rate"] = rate.into();
    let body = json!({ "model_id": model, "seq_id": session.next_seq(), "adam_params": params, "type": "optim_step" });
    let answer = session.call("optim_step", &body)?;
    let Answer { metrics } = protocol::parse(answer).map_err(|reason| session.unreadable("optim_step", reason))?;
    // SkyRL says `skyrl.ai/grad_norm`; others put other words before it.
    let is_norm = |name: &str| name.rsplit(['/', ':', '.']).next().is_some_and(|name| name.starts_with("grad"));
    Ok(metrics.and_then(|metrics| metrics.iter().find(|(name, _)| is_norm(name)).and_then(|(_, norm)| norm.as_f64())))
}

/// What the server divides by; see [`Reduction`].
pub(super) fn measure_reduction(session: &Session, options: &TinkerOptions) -> Result<Reduction, TinkerError> {
    let model = create(session, options)?;
    let norm = |counted: usize, behind: usize, copies: usize| {
        let token = |at: usize| (at % options.vocabulary) as TokenId;
        let completion = Completion {
            tokens: (1..=counted + behind).map(token).collect(),
            behavior: vec![0.0; counted + behind],
            ..Completion::default()
        };
        let sampled_by = version_of(&["probe"]);
        let trace = Trace { prompt: vec![token(0)], prefix: Vec::new(), completion, sampled_by };
        let traces = vec![&trace; copies];
        let (_, body) = protocol::pass(&model, Loss::CrossEntropy, &[Datum::scored(&trace)], session.next_seq());
        let answer = session.call("forward", &body)?;
        let current = protocol::completion_scores(answer, &traces[..1])
            .map_err(|reason| session.unreadable("forward", reason))?
            .remove(0);
        let advantages: Vec<f32> = (0..counted + behind).map(|at| f32::from(u8::from(at < counted))).collect();
        let data = vec![Datum::learnt(&trace, &current, &advantages); copies];
        let (route, body) = protocol::pass(&model, Loss::ImportanceSampling, &data, session.next_seq());
        session.call(route, &body)?;
        optim_step(session, &model, 0.0, options.adam)
    };
    // One prompt token, so targets are completion tokens: eight, and eight more that count nothing.
    let norms = (|| Ok::<_, TinkerError>((norm(8, 0, 1)?, norm(8, 0, 2)?, norm(8, 8, 1)?)))();
    unload(session, &model);
    let (Some(once), Some(twice), Some(longer)) = norms? else { return Ok(Reduction::SUM) };
    Reduction::of_norms(once, twice, longer).ok_or_else(|| TinkerError::Reduction {
        endpoint: session.address().to_string(),
        reason: format!("gradients have norms {once}, {twice} and {longer}"),
    })
}

/// Saves the model's weights by `route` under `name`; gives their path.
pub(super) fn save(session: &Session, model: &str, route: &str, name: &str) -> Result<String, TinkerError> {
    #[derive(Deserialize)]
    struct Answer {
        path: String,
    }
    let body = json!({ "model_id": model, "path": name, "seq_id": session.next_seq(), "type": route });
    let answer = session.call(route, &body)?;
    let Answer { path } = protocol::parse(answer).map_err(|reason| session.unreadable(route, reason))?;
    Ok(path)
}

/// A new model with the weights at `path`.
pub(super) fn load(session: &Session, options: &TinkerOptions, path: &str) -> Result<String, TinkerError> {
    let model = create(session, options)?;
    let body = json!({ "model_id": model, "path": path, "seq_id": session.next_seq(), "type": "load_weights" });
    session.call("load_weights", &body)?;
    Ok(model)
}
