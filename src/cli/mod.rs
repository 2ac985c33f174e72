//! The command lines: arguments as typed, one library call, print. The only place that prints.
#![allow(clippy::print_stdout, reason = "this is where output is made")]

pub mod args;
pub mod log;
pub mod pod;
pub mod runtime;
