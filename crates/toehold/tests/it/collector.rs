//! Another model that collects, whose words are not all the run's.

use expect_test::{Expect, expect};
use toehold::rollout::Store;
use toehold::rollout::store::{StartFilter, StartKind, TraceFilter};

use crate::place::Place;

/// A base that does not know the word `fast`, and the one that does, whose traces are cut.
fn place() -> Place {
    let place = Place::with_chains();
    place.copy("base", "other");
    // Other weights too, by the last bit of the last number: a policy is named by them.
    let file = place.path("base/model.safetensors");
    let mut weights = std::fs::read(&file).unwrap();
    let last = weights.len() - 4;
    weights[last] ^= 1;
    std::fs::write(file, weights).unwrap();
    place.edit("base/tokenizer.json", "\"fast\"", "\"hasty\"");
    place.edit("recipe.toml", "[collect]\n", "[collect]\npolicy = \"other\"\n");
    place
}

#[test]
fn prefixes_are_cut_from_what_comes_back() {
    let place = place();
    let all = "--quiet --set train.steps=2 --set collect.until=max-attempts";
    place.toehold(&format!("run recipe.toml {all}")).succeeded();
    let store = Store::open_read_only(place.path("runs/r/traces.db")).unwrap();
    let (own, other) = (place.tokenizer("base"), place.tokenizer("other"));
    let encoded = store.encoded(own.hash()).unwrap();
    let policies = store.policies().unwrap();
    let mut left_out = 0;
    for (row, tokens) in &encoded {
        let trace = store.trace(*row).unwrap().unwrap();
        let policy = policies.iter().find(|policy| policy.version == trace.trace.sampled_by).unwrap();
        assert_eq!((policy.tokenizer_hash.as_str(), policy.model.as_str()), (other.hash(), "other"));
        let text = other.decode(&trace.trace.completion.tokens);
        match tokens {
            Some(tokens) => assert_eq!(own.decode(tokens), text),
            None => {
                assert!(text.contains("fast"), "{text} was left out");
                left_out += 1;
            }
        }
    }
    assert!((1..encoded.len()).contains(&left_out), "{left_out} of {} were left out", encoded.len());
    let prefixed = StartFilter { kind: Some(StartKind::Prefixed), ..StartFilter::default() };
    let starts = store.starts(&prefixed).unwrap();
    assert!(!starts.is_empty());
    for start in starts {
        let tokens = encoded[&start.origin.unwrap().trace.unwrap()].as_ref().unwrap();
        assert!(tokens.starts_with(&start.prefix));
    }
    // Again from the beginning of the stage: nothing is sampled or encoded anew.
    let before = store.traces(&TraceFilter::default()).unwrap().len();
    let said = place.toehold("sample runs/r").succeeded();
    assert!(said.stderr.contains("left out because their text does not come back"), "{said}");
    assert_eq!(store.traces(&TraceFilter::default()).unwrap().len(), before);
    assert_eq!(store.encoded(own.hash()).unwrap(), encoded);
}

#[test]
fn what_takes_the_traces_for_the_policys_own_is_refused() {
    let place = place();
    let check = |set: &str, expected: Expect| {
        let ran = place.toehold(&format!("sample recipe.toml --quiet --set {set}"));
        assert_eq!(ran.status, 1, "{ran}");
        expected.assert_eq(&ran.stderr);
    };
    check(
        "problems.band=hard",
        expect![[r#"
        error: [collect] policy is another model, but [problems] band asks for the policy's own success
        hint: it goes with [curriculum] kind = "success-prefix" or "in-context"; recipes/cross-family.toml is one
    "#]],
    );
    check(
        "objective.kind=luffy",
        expect![[r#"
        error: [collect] policy is another model, but [objective] weighs collected traces by who sampled them
        hint: it goes with [curriculum] kind = "success-prefix" or "in-context"; recipes/cross-family.toml is one
    "#]],
    );
    check(
        "sft.epochs=1",
        expect![[r#"
        error: [collect] policy is another model, but [sft] imitates traces in the policy's own tokens
        hint: it goes with [curriculum] kind = "success-prefix" or "in-context"; recipes/cross-family.toml is one
    "#]],
    );
    check(
        "collect.policy=nowhere",
        expect![[r#"
        error: [collect] policy: the model folder nowhere is not there
    "#]],
    );
    check(
        "collect.max_tokens=9999",
        expect![[r#"
        error: [collect] max_tokens is 9999 and the longest prompt has 6 tokens, but the model in other has 1024 positions
        hint: --set collect.max_tokens=1018
    "#]],
    );
    place.edit("recipe.toml", "kind = \"success-prefix\"", "kind = \"failure-prefix\"");
    check(
        "train.steps=2",
        expect![[r#"
        error: [collect] policy is another model, but [curriculum] does not cut correct traces alone
        hint: it goes with [curriculum] kind = "success-prefix" or "in-context"; recipes/cross-family.toml is one
    "#]],
    );
}
