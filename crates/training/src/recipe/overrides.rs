//! `--set table.key=value`: one value laid over a recipe.
//!
//! The value is TOML where it can be read as such (`3`, `1e-6`, `true`, `[1, 4]`, `"text"`), and text
//! otherwise, so that a shell needs no second layer of quotes.

use super::RecipeError;

/// Lays `text`, of the form `table.key=value`, over `sections`; tables on the way are made.
///
/// # Errors
/// Text without `=`, without a table or with an empty key, and a path through something that is no
/// table. Whether the key exists is found when the recipe is resolved.
pub fn apply(sections: &mut toml::Table, text: &str) -> Result<(), RecipeError> {
    let refuse = |reason: String| RecipeError::Override { text: text.to_owned(), reason };
    let (path, value) = text.split_once('=').ok_or_else(|| refuse("expected the form table.key=value".to_owned()))?;
    let keys: Vec<&str> = path.split('.').map(str::trim).collect();
    if keys.len() < 2 || keys.iter().any(|key| key.is_empty()) {
        return Err(refuse("expected the form table.key=value".to_owned()));
    }
    let (last, tables) = keys.split_last().expect("there are at least two keys");
    let mut at = sections;
    for key in tables {
        let entry = at.entry((*key).to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry.as_table_mut().ok_or_else(|| refuse(format!("`{key}` is a value, not a table")))?;
    }
    at.insert((*last).to_owned(), value_of(value.trim()));
    Ok(())
}

fn value_of(text: &str) -> toml::Value {
    let read = format!("value = {text}").parse::<toml::Table>().ok();
    read.filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(texts: &[&str], expected: Expect) {
        let mut sections: toml::Table = "[train]\nsteps = 400\n".parse().unwrap();
        let result = texts.iter().try_for_each(|text| super::apply(&mut sections, text));
        expected.assert_eq(&match result {
            Ok(()) => toml::to_string(&sections).unwrap(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn values_are_toml_or_text() {
        check(
            &["train.steps=3"],
            expect![[r#"
            [train]
            steps = 3
        "#]],
        );
        check(
            &["train.learning_rate = 1e-6", "evaluate.k=[1, 4]"],
            expect![[r#"
            [evaluate]
            k = [1, 4]

            [train]
            learning_rate = 0.000001
            steps = 400
        "#]],
        );
        check(
            &["run.name=a b = c"],
            expect![[r#"
            [run]
            name = "a b = c"

            [train]
            steps = 400
        "#]],
        );
        check(
            &["run.name=\"3\"", "run.name=4"],
            expect![[r#"
            [run]
            name = 4

            [train]
            steps = 400
        "#]],
        );
        check(
            &["run.name=x\nsteps = 1"],
            expect![[r#"
            [run]
            name = """
            x
            steps = 1"""

            [train]
            steps = 400
        "#]],
        );
    }

    #[test]
    fn what_is_no_override_is_refused() {
        check(&["train.steps"], expect!["cannot apply the override `train.steps`: expected the form table.key=value"]);
        check(&["steps=3"], expect!["cannot apply the override `steps=3`: expected the form table.key=value"]);
        check(&[".steps=3"], expect!["cannot apply the override `.steps=3`: expected the form table.key=value"]);
        check(
            &["train.steps.more=3"],
            expect!["cannot apply the override `train.steps.more=3`: `steps` is a value, not a table"],
        );
    }
}
