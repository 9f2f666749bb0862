//! From the recipe as written to the plan: defaults, then ranges.

use toehold_rollout::SwitchPenalty;

use super::plan::{
    Collect, DEFAULT_TEXT, Detect, Evaluate, Plan, Policy, Problems, Run, Sft, Template, TemplateKind, ThoughtSwitch,
    Train,
};
use super::{Method, RecipeError, Verification};

pub(super) fn resolve<O: Method, C: Method>(sections: &toml::Table) -> Result<Plan<O, C>, RecipeError> {
    let table = |name: &str| sections.get(name).and_then(toml::Value::as_table).cloned();
    let section = |name: &str| table(name).unwrap_or_default();
    refuse_thought_switch(sections)?;
    let plan = Plan {
        run: Run::read(section("run"), "run")?,
        problems: Problems::read(section("problems"), "problems")?,
        verifier: verification(sections)?,
        policy: Policy::read(section("policy"), "policy")?,
        template: Template::read(section("template"), "template")?,
        sampler: table("sampler").map(super::sampler::resolve).transpose()?.flatten(),
        learner: table("learner").map(super::learner::resolve).transpose()?.flatten(),
        collect: Collect::read(section("collect"), "collect")?,
        curriculum: method::<C>(section(C::SECTION))?,
        sft: table("sft").map(|table| Sft::read(table, "sft")).transpose()?,
        objective: method::<O>(section(O::SECTION))?,
        train: Train::read(section("train"), "train")?,
        detect: Detect::read(section("detect"), "detect")?,
        evaluate: Evaluate::read(section("evaluate"), "evaluate")?,
    };
    check_source(&plan)?;
    check_template(&plan)?;
    check_thought_switch(&plan)?;
    check_ranges(&plan)?;
    Ok(plan)
}

/// The table `[verifier]`, whose ranges it checks itself; none where there is none.
pub(super) fn verification(sections: &toml::Table) -> Result<Option<Verification>, RecipeError> {
    let Some(table) = sections.get("verifier").and_then(toml::Value::as_table) else { return Ok(None) };
    let verification = Verification::read(table.clone(), "verifier")?;
    verification.check()?;
    Ok(Some(verification))
}

/// Reads a table with `kind`. It has no default: a recipe is about its method, so it names it.
fn method<M: Method>(mut table: toml::Table) -> Result<M, RecipeError> {
    let kind: Option<String> = super::section::take(&mut table, M::SECTION, "kind")?;
    let missing = || RecipeError::Missing { section: M::SECTION.to_owned(), key: "kind".to_owned() };
    M::read(&kind.ok_or_else(missing)?, table)
}

fn check_source<O, C>(plan: &Plan<O, C>) -> Result<(), RecipeError> {
    let problems = &plan.problems;
    let out = |key, found: &str, expected| {
        Err(RecipeError::OutOfRange { section: "problems", key, found: found.to_owned(), expected })
    };
    match (&problems.file, &problems.synthetic) {
        (None, None) => Err(RecipeError::Missing { section: "problems".into(), key: "file` or `synthetic".into() }),
        (Some(_), Some(_)) => out("file", "written beside `synthetic`", "one of the two"),
        (None, Some(_)) if problems.held_out_file.is_some() => {
            out("held_out_file", "written beside `synthetic`", "`held_out`, a number of problems")
        }
        (None, Some(_)) if problems.preset.is_some() || problems.held_out_preset.is_some() => {
            out("preset", "written beside `synthetic`", "`file`, whose columns it names")
        }
        (None, Some(synthetic)) => synthetic.0.check().map_err(|error| RecipeError::WrongType {
            section: "problems".into(),
            key: "synthetic".into(),
            reason: error.to_string(),
        }),
        (Some(_), None) if problems.held_out_preset.is_some() && problems.held_out_file.is_none() => {
            out("held_out_preset", "written without `held_out_file`", "both")
        }
        _ => Ok(()),
    }
}

/// What only one kind of template reads is refused beside the other, rather than not read.
fn check_template<O, C>(plan: &Plan<O, C>) -> Result<(), RecipeError> {
    let Template { kind, system, instruction, enable_thinking, name, file, date, variables } = &plan.template;
    let is_chat = *kind == TemplateKind::Chat;
    let chat_only = [
        ("system", system.is_some()),
        ("instruction", instruction.is_some()),
        ("enable_thinking", enable_thinking.is_some()),
        ("name", name.is_some()),
        ("file", file.is_some()),
        ("date", date.is_some()),
        ("variables", variables.is_some()),
    ];
    for (key, is_written) in chat_only {
        check("template", key, "written beside kind = \"text\"", is_chat || !is_written, "kind = \"chat\"")?;
    }
    check("template", "name", "written beside `file`", name.is_none() || file.is_none(), "one of the two")?;
    let text = &plan.policy.template;
    let is_default = !is_chat || text == DEFAULT_TEXT;
    check("policy", "template", "written beside [template] kind = \"chat\"", is_default, "[template] instruction")
}

/// A penalty on switching thoughts is refused where its rollouts would be stored or learnt from.
fn refuse_thought_switch(sections: &toml::Table) -> Result<(), RecipeError> {
    let why = [
        ("collect", "the store has no field for it, so a prefix could not say how it was drawn"),
        ("train", "rollouts are learnt from as the policy's own, and a penalty makes their distribution another one"),
    ];
    for (section, why) in why {
        if sections.get(section).and_then(|table| table.get("thought_switch")).is_some() {
            let reason = format!("{why}\nhint: [evaluate.thought_switch] is for evaluation alone");
            let (section, key) = (section.to_owned(), "thought_switch".to_owned());
            return Err(RecipeError::WrongType { section, key, reason });
        }
    }
    Ok(())
}

/// The numbers of a penalty on switching thoughts, and whether who samples can do it.
fn check_thought_switch<O, C>(plan: &Plan<O, C>) -> Result<(), RecipeError> {
    let Some(ThoughtSwitch { words, penalty, .. }) = &plan.evaluate.thought_switch else { return Ok(()) };
    let section = "evaluate.thought_switch";
    let is_penalty = (0.0..=SwitchPenalty::MOST).contains(penalty);
    check(section, "penalty", penalty, is_penalty, "at least 0 and at most 1e6")?;
    let are_words = !words.is_empty() && words.iter().all(|word| !word.trim().is_empty());
    check(section, "words", format!("{words:?}"), are_words, "at least one, and none empty")?;
    let written = "written beside";
    let is_local = plan.sampler.is_none();
    check(
        "evaluate",
        "thought_switch",
        format!("{written} [sampler]"),
        is_local,
        "the policy itself to sample: no server has a penalty that ends",
    )?;
    let is_local = plan.learner.is_none();
    check(
        "evaluate",
        "thought_switch",
        format!("{written} [learner]"),
        is_local,
        "the policy itself to sample: the Tinker API has no such penalty",
    )
}

/// One line per rule: the table, the key, the value, whether it is in range, and the range in words.
fn check_ranges<O, C>(plan: &Plan<O, C>) -> Result<(), RecipeError> {
    let Plan { run, problems, policy, collect, train, detect, evaluate, .. } = plan;
    let name_is_plain = !run.name.is_empty() && !run.name.starts_with('.') && !run.name.contains(['/', '\\']);
    let has_problem = policy.template.contains("{problem}");
    let k_limit = u64::from(evaluate.samples);
    check("run", "name", &run.name, name_is_plain, "a folder's name")?;
    check("problems", "count", problems.count, problems.count > 0, "at least 1")?;
    check("policy", "template", format!("{:?}", policy.template), has_problem, "text with {problem}")?;
    check("policy", "cache_mib", policy.cache_mib, policy.cache_mib > 0, "at least 1")?;
    let micro_batch = policy.micro_batch_tokens;
    check("policy", "micro_batch_tokens", micro_batch, micro_batch > 0, "at least 1")?;
    if let Some(lora) = &policy.lora {
        let is_new = |place: usize| !lora.targets[..place].contains(&lora.targets[place]);
        let are_targets = !lora.targets.is_empty() && (0..lora.targets.len()).all(is_new);
        check("policy.lora", "rank", lora.rank, (1..=65_536).contains(&lora.rank), "at least 1 and at most 65536")?;
        check("policy.lora", "alpha", lora.alpha, lora.alpha.is_finite(), "a finite number")?;
        check("policy.lora", "targets", format!("{:?}", lora.targets), are_targets, "at least one, each once")?;
    }
    check("collect", "max_attempts", collect.max_attempts, collect.max_attempts > 0, "at least 1")?;
    check("collect", "temperature", collect.temperature, is_above_zero(collect.temperature), "above 0")?;
    check("collect", "max_tokens", collect.max_tokens, collect.max_tokens > 0, "at least 1")?;
    check("collect", "in_flight", collect.in_flight, collect.in_flight > 0, "at least 1")?;
    check("train", "starts", train.starts, train.starts > 0, "at least 1")?;
    check("train", "group", train.group, train.group > 0, "at least 1")?;
    check("train", "learning_rate", train.learning_rate, is_rate(train.learning_rate), "at least 0 and finite")?;
    check("train", "clip", train.clip, train.clip > 0.0, "above 0")?;
    check("train", "temperature", train.temperature, is_above_zero(train.temperature), "above 0")?;
    check("train", "top_p", train.top_p, train.top_p > 0.0 && train.top_p <= 1.0, "in (0, 1]")?;
    check("train", "max_tokens", train.max_tokens, train.max_tokens > 0, "at least 1")?;
    check("train", "flops", train.flops.unwrap_or(1.0), train.flops.is_none_or(|f| f > 0.0), "above 0")?;
    check("train", "checkpoint_every", train.checkpoint_every, train.checkpoint_every > 0, "at least 1")?;
    check("train", "keep_checkpoints", train.keep_checkpoints, train.keep_checkpoints > 0, "at least 1")?;
    check("detect", "ngram", detect.ngram, detect.ngram > 0, "at least 1")?;
    check("detect", "repetition", detect.repetition, is_share(detect.repetition), "in [0, 1]")?;
    check("detect", "skipping", detect.skipping, is_share(detect.skipping), "in [0, 1]")?;
    check("detect", "collapse", detect.collapse, is_share(detect.collapse), "in [0, 1]")?;
    check("detect", "window", detect.window, detect.window > 0, "at least 1")?;
    check("detect", "lone", detect.lone, detect.lone > 1, "at least 2")?;
    check("detect", "parroting", detect.parroting, is_share(detect.parroting), "in [0, 1]")?;
    check("detect", "answers", detect.answers, detect.answers > 0, "at least 1")?;
    check("evaluate", "samples", evaluate.samples, evaluate.samples > 0, "at least 1")?;
    check("evaluate", "curve_samples", evaluate.curve_samples, evaluate.curve_samples > 0, "at least 1")?;
    check("evaluate", "temperature", evaluate.temperature, evaluate.temperature >= 0.0, "at least 0")?;
    check("evaluate", "max_tokens", evaluate.max_tokens, evaluate.max_tokens > 0, "at least 1")?;
    for &k in &evaluate.k {
        check("evaluate", "k", k, k > 0 && u64::from(k) <= k_limit, "at least 1 and at most `samples`")?;
    }
    for &share in &evaluate.prefix_sweep {
        check("evaluate", "prefix_sweep", share, (0.0..1.0).contains(&share), "in [0, 1)")?;
    }
    let Some(sft) = &plan.sft else { return Ok(()) };
    check("sft", "epochs", sft.epochs, sft.epochs > 0, "at least 1")?;
    check("sft", "batch", sft.batch, sft.batch > 0, "at least 1")?;
    check("sft", "learning_rate", sft.learning_rate, is_rate(sft.learning_rate), "at least 0 and finite")?;
    check("sft", "warm_up", sft.warm_up, (0.0..=1.0).contains(&sft.warm_up), "in [0, 1]")
}

fn is_rate(rate: f64) -> bool {
    rate.is_finite() && rate >= 0.0
}

fn is_share(share: f64) -> bool {
    (0.0..=1.0).contains(&share)
}

fn is_above_zero(temperature: f32) -> bool {
    temperature.is_finite() && temperature > 0.0
}

pub(super) fn check(
    section: &'static str,
    key: &'static str,
    found: impl ToString,
    is_in_range: bool,
    expected: &'static str,
) -> Result<(), RecipeError> {
    if is_in_range {
        return Ok(());
    }
    Err(RecipeError::OutOfRange { section, key, found: found.to_string(), expected })
}
