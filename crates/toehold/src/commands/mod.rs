//! One file per command: its arguments, what it does, what it says.

pub mod bench;
pub mod chat_template;
pub mod cut;
pub mod demo;
pub mod evaluate;
pub mod export;
pub mod generate;
pub mod import;
pub mod merge;
pub mod methods;
pub mod pretrain;
pub mod problems;
pub mod report;
pub mod run;
pub mod sample;
pub mod score;
pub mod theory;
pub mod traces;
pub mod train;
pub mod verify;
