//! The integration tests, one binary: the floors, the tidiness of the tree, the commands.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod floors;
mod tidy;
