//! `meshc graph`: who calls whom, and what retries and timeouts make of it.

use mesh_compiler::analysis::call_graph::{CallGraph, NodeId};
use mesh_compiler::analysis::retry::{Question, Report};

use super::{Failure, folder};
use crate::args::{Graph, GraphFormat, Place};
use crate::compile::{Subject, compile};
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;
use crate::render::picture::{Picture, dot, html, mermaid, svg};
use crate::render::{graph, human, json};

/// Why there is no graph.
#[derive(Debug, thiserror::Error)]
enum GraphError {
    #[error("no service, gateway or external is named {0}")]
    Unknown(String),
}

pub(super) fn run(args: &Graph, place: &Place) -> Result<Exit, Failure> {
    let loaded = load(&folder(place, args.folder.as_deref()))?;
    let compiled = compile(Subject::new(&loaded, place));
    compiled.has_environment(place.environment())?;
    // What checks find is no obstacle: the graph is where one looks to understand it.
    let Some(mesh) = compiled.mesh() else {
        match args.format {
            GraphFormat::Json => output::data(&json::check(&loaded.sources, &compiled)?)?,
            _ => output::note(human::check(&loaded.sources, &compiled).trim_end()),
        }
        return Ok(Exit::from_findings(false, &compiled.findings));
    };
    let calls = CallGraph::of(mesh);
    let question = Question {
        entry: named(&calls, args.entry.as_deref())?,
        failure_rate: args.failure_rate,
        failing: named(&calls, args.failing.as_deref())?,
    };
    let report = Report::of(&calls, question);
    let picture = || Picture::of(mesh, &calls, &report);
    let text = match args.format {
        GraphFormat::Human => graph::human(&calls, &report),
        GraphFormat::Json => graph::json(&loaded.sources, &calls, &report)?,
        GraphFormat::Dot => dot::dot(&picture()),
        GraphFormat::Mermaid => mermaid::mermaid(&picture()),
        GraphFormat::Svg => svg::svg(&picture()),
        GraphFormat::Html => html::html(&picture()),
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

fn named(graph: &CallGraph, name: Option<&str>) -> Result<Option<NodeId>, GraphError> {
    name.map(|name| {
        graph
            .named(name)
            .ok_or_else(|| GraphError::Unknown(name.to_owned()))
    })
    .transpose()
}
