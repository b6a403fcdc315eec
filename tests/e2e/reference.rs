//! The reference pages against the programs that they speak of: arguments and metrics.
//!
//! `MESH_GENERATE=1 cargo test --release -p mesh-tests reference` writes that of the arguments.

use std::process::Command;

use mesh_tests::{Failure, http_get, program, run, workspace_root};

use crate::support::bookshop;

fn compare(page: &str, text: &str) -> Result<(), Failure> {
    let file = workspace_root().join("schemas/reference").join(page);
    if std::env::var_os("MESH_GENERATE").is_some() {
        std::fs::write(&file, text)?;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "{page} is out of date: run `MESH_GENERATE=1 cargo test --release -p mesh-tests reference`"
    );
    Ok(())
}

/// What `--help` prints, as wide as on a terminal of a hundred columns.
fn help(name: &str, words: &[&str]) -> Result<String, Failure> {
    let output = run(Command::new(program(name)?)
        .args(words)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", "100"))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect()
}

#[test]
fn the_reference_of_arguments_is_up_to_date() -> Result<(), Failure> {
    let mut text = String::from("# Arguments\n\nWhat `--help` prints, for every command.\n");
    for name in ["meshc", "meshd", "meshp"] {
        let top = help(name, &[])?;
        text.extend(["\n## ", name, "\n\n```text\n", &top, "\n```\n"]);
        for command in commands(&top) {
            let below = help(name, &[command])?;
            text.extend(["\n### ", name, " ", command]);
            text.extend(["\n\n```text\n", &below, "\n```\n"]);
            for further in commands(&below) {
                let last = help(name, &[command, further])?;
                text.extend(["\n#### ", name, " ", command, " ", further]);
                text.extend(["\n\n```text\n", &last, "\n```\n"]);
            }
        }
    }
    compare("cli.md", &text)
}

/// Many series exist only once something has gone wrong, so this is the half that can be asked: what
/// a proxy tells is on the page.
#[test]
fn every_metric_of_a_proxy_is_in_the_reference() -> Result<(), Failure> {
    let shop = bookshop(20)?;
    let address = shop.dev.instance("productpage")?.metrics;
    let metrics = http_get(address, "localhost", "/metrics", &[])?.body;
    let page = std::fs::read_to_string(workspace_root().join("schemas/reference/metrics.md"))?;
    let told: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(told.len() > 5, "{metrics}");
    for name in told {
        let documented = ["", "_total", "_info"]
            .iter()
            .any(|suffix| page.contains(&format!("| `{name}{suffix}` |")));
        assert!(documented, "{name} is not in the reference");
    }
    Ok(())
}
