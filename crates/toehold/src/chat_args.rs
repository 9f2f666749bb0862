//! The settings of a chat template on the command line: what `[template]` is in a recipe.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use toehold_rollout::{ChatSettings, Date, Prompts, TokenizerFile};

use crate::prepare;

/// What a chat template is told.
#[derive(Clone, Debug, Default, Args)]
pub struct ChatArgs {
    /// The system message [default: the template's own, where it has one]
    #[arg(long, value_name = "TEXT", display_order = 40)]
    pub system: Option<String>,
    /// Said after the problem, on a line of its own
    #[arg(long, value_name = "TEXT", display_order = 40)]
    pub instruction: Option<String>,
    /// Whether a model that can do both thinks first [default: as the template has it]
    #[arg(long, value_enum, value_name = "ON|OFF", display_order = 40)]
    pub thinking: Option<Switch>,
    /// Which of the folder's templates, where it has several [default: the one called default]
    #[arg(long, value_name = "NAME", conflicts_with = "template_file", display_order = 40)]
    pub template_name: Option<String>,
    /// A Jinja file instead of the folder's template
    #[arg(long, value_name = "FILE", display_order = 40)]
    pub template_file: Option<PathBuf>,
    /// The day that the template takes for today, such as 2025-01-31
    #[arg(long, value_name = "DAY", display_order = 40)]
    pub date: Option<Date>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl ChatArgs {
    /// The prompts that the template of the folder `model` makes with these settings, checked.
    ///
    /// # Errors
    /// No template, or one that cannot be continued.
    pub fn prompts(&self, model: &Path, tokenizer: &TokenizerFile) -> Result<Prompts> {
        let settings = ChatSettings {
            system: self.system.clone(),
            instruction: self.instruction.clone(),
            enable_thinking: self.thinking.map(|thinking| thinking == Switch::On),
            date: self.date,
            ..ChatSettings::default()
        };
        let template = prepare::chat_template(model, self.template_name.as_deref(), self.template_file.as_deref())?;
        let prompts = Prompts::Chat { template: Box::new(template), settings };
        prompts.check(tokenizer)?;
        Ok(prompts)
    }

    /// Refuses settings of a template that nothing asks for.
    ///
    /// # Errors
    /// One is there.
    pub fn refuse_any(&self, needs: &str) -> Result<()> {
        let written = [
            ("system", self.system.is_some()),
            ("instruction", self.instruction.is_some()),
            ("thinking", self.thinking.is_some()),
            ("template-name", self.template_name.is_some()),
            ("template-file", self.template_file.is_some()),
            ("date", self.date.is_some()),
        ];
        match written.iter().find(|(_, is_written)| *is_written) {
            Some((name, _)) => bail!("--{name} says something to a chat template, but there is no {needs}"),
            None => Ok(()),
        }
    }
}
