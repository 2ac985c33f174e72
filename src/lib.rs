//! seedpod: a low-level Linux sandbox runtime that knows what a Pod is.
//!
//! One way through: [`cli`] (as typed) -> oci-spec (wire) -> [`spec`] (meaning) -> [`plan`]
//! (ordered operations) -> [`launch`] (the parent) and [`child`] (executes the plan) ->
//! [`container`] (life cycle). [`pod`] stands on top of that and [`image`] beside it.
//! docs/architecture.md is the map.

pub mod cgroup;
pub mod error;
pub mod image;
pub mod pod;
pub mod seccomp;
