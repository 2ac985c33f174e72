//! Control groups, version 2. See docs/architecture.md.

pub mod devices;
