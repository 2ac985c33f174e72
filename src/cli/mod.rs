//! The command lines. See docs/architecture.md.

pub mod pod;
