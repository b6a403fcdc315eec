//! The page of every code in `schemas/reference` is the one that `meshc explain` prints.

use std::path::Path;

/// Run with `MESH_GENERATE=1` to write the page.
#[test]
fn the_reference_of_codes_is_up_to_date() {
    let mut text = String::from(
        "# Codes\n\nWhat `meshc` finds, made from its own pages. A code never changes meaning and is never used again.\n\n",
    );
    let pages = mesh_lint::pages();
    for page in &pages {
        text.extend(["- ", page.code, " `", page.name, "`: ", page.summary, "\n"]);
    }
    text.push_str("\nCodes without a finding, since the language cannot express their subject; `meshc explain` says why:\n\n");
    for page in mesh_lint::unexpressed() {
        text.extend(["- ", page.code, " `", page.name, "`: ", page.summary, "\n"]);
    }
    for page in &pages {
        text.push('\n');
        // Headings of a page are below the page's own.
        for line in page.text().lines() {
            if line.starts_with("# ") || line.starts_with("## ") {
                text.push('#');
            }
            text.extend([line, "\n"]);
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/reference/rules.md");
    if std::env::var_os("MESH_GENERATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "out of date: run `MESH_GENERATE=1 cargo test -p mesh-lint --test reference`"
    );
}
