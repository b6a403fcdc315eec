//! The published reference and schema of the language are those that the compiler was made with.

use std::path::Path;

/// Run with `MESH_GENERATE=1` to write the page.
#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/reference/keywords.md");
    let made = mesh_compiler::keyword::reference();
    if std::env::var_os("MESH_GENERATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == committed,
        "out of date: run `MESH_GENERATE=1 cargo test -p mesh-compiler --test reference`"
    );
}

/// Run with `MESH_GENERATE=1` to write the file.
#[test]
fn the_schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/kdl/mesh.schema.kdl");
    let made = mesh_compiler::keyword::schema();
    if std::env::var_os("MESH_GENERATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == committed,
        "out of date: run `MESH_GENERATE=1 cargo test -p mesh-compiler --test reference`"
    );
}
