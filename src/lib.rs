//! seedpod: a low-level Linux sandbox runtime that knows what a Pod is.
//!
//! One way through: [`cli`] (as typed) -> oci-spec (wire) -> [`spec`] (meaning) -> [`plan`]
//! (ordered operations) -> [`launch`] (the parent) and [`child`] (executes the plan) ->
//! [`container`] (life cycle). [`pod`] stands on top of that and [`image`] beside it.
//! docs/architecture.md is the map.

pub mod cgroup;
pub mod child;
pub mod cli;
pub mod container;
pub mod error;
pub mod fault;
pub mod files;
pub mod image;
pub mod launch;
pub mod mount;
pub mod plan;
pub mod pod;
pub mod seccomp;
pub mod spec;
pub mod sys;
