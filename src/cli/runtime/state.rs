//! `state`, and the object that `list` prints too.

use anyhow::Result;
use serde::Serialize;

use super::{Context, SPEC_VERSION, out};
use crate::cli::args::Matches;
use crate::container::View;

/// runtime-spec runtime.md, State, with runc's additions, in runc's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: String,
    rootfs: String,
    pub(super) created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<std::collections::BTreeMap<String, String>>,
    pub(super) owner: String,
}

impl Shown {
    pub(super) fn of(view: &View) -> Self {
        let state = view.state.as_ref();
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let annotations: std::collections::BTreeMap<_, _> = state
            .map(|it| it.annotations.iter().cloned().collect())
            .unwrap_or_default();
        Self {
            oci_version: state.map_or(SPEC_VERSION.to_owned(), |it| it.oci_version.clone()),
            id: view.entry.id.clone(),
            pid: view.pid(),
            status: view.status.word(),
            bundle: state.map(|it| text(&it.bundle)).unwrap_or_default(),
            rootfs: state.map(|it| text(&it.rootfs)).unwrap_or_default(),
            created: state.map(|it| it.created.clone()).unwrap_or_default(),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner: state.map(|it| it.owner.clone()).unwrap_or_default(),
        }
    }
}

pub(super) fn state(context: &mut Context, matches: &Matches) -> Result<i32> {
    let view = View::of(&context.store, matches.operand(0, "ID")?)?;
    out(&format!(
        "{}\n",
        serde_json::to_string_pretty(&Shown::of(&view))?
    ))?;
    Ok(0)
}
