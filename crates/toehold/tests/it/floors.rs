//! Which crate may import which: exactly the edges of ARCHITECTURE.md.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};
use expect_test::expect;

#[test]
fn crates_import_only_the_floors_below() {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .unwrap();
    let mut edges = BTreeSet::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            let ours = dependency.name.starts_with("toehold");
            if ours && dependency.kind == DependencyKind::Normal {
                edges.insert(format!("{} -> {}\n", package.name, dependency.name));
            }
            assert!(!(ours && dependency.kind != DependencyKind::Normal), "{} has a test-only edge", package.name);
        }
    }
    expect![[r#"
        toehold -> toehold-policy
        toehold -> toehold-rollout
        toehold -> toehold-training
        toehold -> toehold-verifier
        toehold-policy -> toehold-rollout
        toehold-rollout -> toehold-verifier
        toehold-training -> toehold-rollout
        toehold-training -> toehold-verifier
    "#]]
    .assert_eq(&edges.into_iter().collect::<String>());
}

/// `training` has no tensors and `policy` no rewards, whatever an edge's name says.
#[test]
fn heavy_dependencies_stay_behind_their_fence() {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .unwrap();
    let fenced = ["burn", "rusqlite", "tokenizers", "plotters", "maud", "clap", "indicatif"];
    let mut owners = BTreeSet::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            if fenced.contains(&dependency.name.as_str()) {
                owners.insert(format!("{}: {}\n", dependency.name, package.name));
            }
        }
    }
    expect![[r#"
        burn: toehold-policy
        clap: toehold
        indicatif: toehold
        maud: toehold
        plotters: toehold
        rusqlite: toehold-rollout
        tokenizers: toehold-rollout
    "#]]
    .assert_eq(&owners.into_iter().collect::<String>());
}
