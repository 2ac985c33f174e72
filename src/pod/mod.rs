//! Pods: from a manifest to its meaning, from its meaning to containers, and from what happened to
//! its status.
//!
//! One way through: [`manifest`] (what was written, strictly read) -> [`spec`] (what it means,
//! defaults applied) -> [`supervisor`], which makes the sandbox and lets [`decide`] say what comes
//! next -> [`instance`] (one container, by [`config`]) -> [`status::ContainerRecord`]s -> [`status`]
//! (a pure function) -> [`mod@print`]. [`quantity`], [`resources`] and [`expand`] are the formulas in
//! between; [`store`] is where everything is kept. [`apply`], [`look`](mod@look) and [`delete`] are what
//! commands call.

pub mod apply;
pub mod config;
pub mod decide;
pub mod delete;
pub mod expand;
pub mod instance;
pub mod logs;
pub mod look;
pub mod machine;
pub mod manifest;
pub mod print;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod spec;
pub mod status;
pub mod store;
pub mod supervisor;
pub mod time;
pub mod user;
pub mod userns;
pub mod volumes;
