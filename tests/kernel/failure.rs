//! To come.
use crate::runner::Test;
use crate::tests;
pub const TESTS: &[Test] = tests![];
