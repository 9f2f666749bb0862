//! `toehold methods`: what there is, one line each; one of them with its settings; its recipe.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;
use toehold_training::recipe::{Listing, Method};
use toehold_training::{CurriculumKind, Objective};

use crate::recipes;
use crate::terminal::Output;

/// Lists every curriculum (where rollouts start) and every objective (how much each token counts).
///
/// A recipe pairs one of each. With a name: its settings and their defaults. With --recipe, only the
/// recipe that shows it, ready for `toehold methods NAME --recipe > my.toml`, `toehold run my.toml`.
#[derive(Debug, Args)]
pub struct MethodsArgs {
    /// The `kind` of a curriculum or an objective
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print the recipe that shows it, and nothing else
    #[arg(long, requires = "name")]
    pub recipe: bool,
}

/// A method as `--json` prints it.
#[derive(Serialize)]
struct MethodEvent {
    event: &'static str,
    section: &'static str,
    name: &'static str,
    summary: String,
    paper: &'static str,
    recipe: &'static str,
    settings: Vec<SettingEvent>,
}

/// One of its settings.
#[derive(Serialize)]
struct SettingEvent {
    key: &'static str,
    default: Option<String>,
    meaning: String,
}

/// A listing with the table that it is a `kind` of, and its defaults in that table.
struct Known {
    section: &'static str,
    listing: &'static Listing,
    /// None where a key has to be written.
    defaults: Option<toml::Table>,
}

/// Runs the command.
///
/// # Errors
/// A name that is no method's.
pub fn run(args: &MethodsArgs, output: &Output) -> Result<()> {
    let known = known();
    let Some(name) = &args.name else {
        output.data(list(&known))?;
        return known.iter().try_for_each(|method| Ok(output.event(&method.event())?));
    };
    let Some(method) = known.iter().find(|method| method.listing.name == name) else {
        let names: Vec<&str> = known.iter().map(|method| method.listing.name).collect();
        bail!("no curriculum and no objective is named `{name}`\nhint: there are {}", names.join(", "));
    };
    if args.recipe {
        let text = recipes::text(method.listing.recipe);
        output.data(text.context("the program was built without its recipes")?.trim_end())?;
        return Ok(());
    }
    output.data(method.shown())?;
    Ok(output.event(&method.event())?)
}

fn known() -> Vec<Known> {
    let mut known = of_table::<CurriculumKind>();
    known.extend(of_table::<Objective>());
    known
}

fn of_table<M: Method>() -> Vec<Known> {
    let defaults = |name: &str| toml::Table::try_from(M::read(name, toml::Table::new()).ok()?).ok();
    let known = |listing| Known { section: M::SECTION, listing, defaults: defaults(listing.name) };
    M::LISTED.iter().map(known).collect()
}

fn list(known: &[Known]) -> String {
    let width = known.iter().map(|method| method.listing.name.len()).max().unwrap_or(0) + 2;
    let heads = [
        (CurriculumKind::SECTION, "Curricula: where rollouts start. In a recipe, [curriculum] kind"),
        (Objective::SECTION, "Objectives: how much each sampled token counts. In a recipe, [objective] kind"),
    ];
    let mut text = String::new();
    for (section, head) in heads {
        let _ = writeln!(text, "{head}\n");
        for Known { listing, .. } in known.iter().filter(|method| method.section == section) {
            let _ = writeln!(text, "{:width$}{}", listing.name, listing.summary());
            let _ = writeln!(text, "{:width$}{}, recipes/{}.toml", "", listing.paper, listing.recipe);
        }
        text.push('\n');
    }
    text + "toehold methods NAME tells the settings of one; docs/methods/ has a page on each."
}

impl Known {
    fn event(&self) -> MethodEvent {
        let Listing { name, paper, recipe, settings, .. } = *self.listing;
        let setting = |setting: &toehold_training::recipe::Setting| SettingEvent {
            key: setting.key,
            default: self.default(setting.key),
            meaning: setting.meaning(),
        };
        let (section, summary) = (self.section, self.listing.summary());
        let settings = settings.iter().map(setting).collect();
        MethodEvent { event: "method", section, name, summary, paper, recipe, settings }
    }

    fn shown(&self) -> String {
        let Known { section, listing, .. } = self;
        let mut text = format!("{} ({section})\n{}\n{}\n\n", listing.name, listing.summary(), listing.paper);
        if listing.settings.is_empty() {
            text += "It has no settings.\n";
        }
        for setting in listing.settings {
            // A key that has no default has to be written, or means something else when it is left out.
            let default = self.default(setting.key).map_or(String::new(), |value| format!(" = {value}"));
            let _ = writeln!(text, "{}{default}\n    {}", setting.key, setting.meaning());
        }
        let (name, recipe) = (listing.name, listing.recipe);
        let _ = write!(text, "\nrecipes/{recipe}.toml shows it: toehold methods {name} --recipe > my.toml");
        text
    }

    /// The default of `key` as TOML; none where the key has to be written, or is left out by default.
    fn default(&self, key: &str) -> Option<String> {
        Some(self.defaults.as_ref()?.get(key)?.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use toehold_training::{Plan, Recipe};

    use super::{known, recipes};

    #[test]
    fn every_method_has_a_sentence_a_paper_a_page_and_a_recipe_that_uses_it() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/methods");
        let mut names = BTreeSet::new();
        for method in known() {
            let listing = method.listing;
            assert!(names.insert(listing.name), "{} is there twice", listing.name);
            assert!(listing.summary().ends_with('.') && !listing.paper.is_empty(), "{}", listing.name);
            assert!(listing.settings.iter().all(|setting| !setting.lines.is_empty()), "{}", listing.name);
            let text = recipes::text(listing.recipe).unwrap();
            let table = &text.parse::<toml::Table>().unwrap()[method.section];
            assert_eq!(table["kind"].as_str(), Some(listing.name), "{}", listing.recipe);
            let page = docs.join(method.section).join(format!("{}.md", listing.name));
            assert!(page.is_file(), "{}", page.display());
        }
    }

    #[test]
    fn every_embedded_recipe_resolves() {
        assert!(recipes::names().contains(&"prefix-rl"));
        for name in recipes::names() {
            let recipe = Recipe::parse(recipes::text(name).unwrap(), &[]).unwrap();
            let plan: Plan = recipe.resolve().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(plan.run.name, name);
        }
    }
}
