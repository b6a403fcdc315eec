//! Files with a cursor, `¦`, in one of them, and answers as short texts.

use std::fmt::Write as _;

use mesh_compiler::Input;
use mesh_compiler::linked::LinkedMesh;
use mesh_syntax::{FileId, SourceSet, Span};

use crate::{Compiled, Completion, Definition, Outlined, Policies};

/// A mesh with a team and an environment.
pub(crate) const MESH: &str = "mesh m {
    trust-domain \"m.example\"
    team shop { service page }
    environment prod
    defaults { timeout \"7s\" }
}
";

pub(crate) struct Case {
    policies: Policies,
    file: FileId,
    offset: usize,
}

impl Case {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let mut sources = SourceSet::new();
        let mut cursor = None;
        for (path, text) in files {
            let file = sources.add(*path, text.replace('¦', "").into_bytes());
            if let Some(offset) = text.find('¦') {
                cursor = Some((file, offset));
            }
        }
        let (file, offset) = cursor.expect("one of the texts has a ¦");
        Self {
            policies: Policies::new(sources, String::new(), None),
            file,
            offset,
        }
    }

    pub(crate) fn one(text: &str) -> Self {
        Self::new(&[("mesh.kdl", MESH), ("a.kdl", text)])
    }

    fn place(&self, span: Span) -> String {
        let sources = self.policies.sources();
        let (line, column) = sources.line_column(span);
        format!("{}:{line}:{column}", sources.path(span.file))
    }

    pub(crate) fn definitions(&self) -> String {
        let found = crate::definitions(&self.policies, self.file, self.offset);
        let texts: Vec<String> = found
            .into_iter()
            .map(|found| match found {
                Definition::At(span) => self.place(span),
                Definition::Library(name) => format!("std/{name}"),
            })
            .collect();
        texts.join(" ")
    }

    pub(crate) fn references(&self) -> String {
        let found = crate::references(&self.policies, self.file, self.offset, true);
        let texts: Vec<String> = found.into_iter().map(|span| self.place(span)).collect();
        texts.join(" ")
    }

    /// Every changed file with its new text, or why there is none.
    pub(crate) fn renamed(&self, new: &str) -> String {
        let edits = match crate::rename(&self.policies, self.file, self.offset, new) {
            Ok(edits) => edits,
            Err(why) => return why.0,
        };
        let sources = self.policies.sources();
        let mut text = String::new();
        for file in sources.files() {
            let mut edited = sources.text(file).unwrap_or_default().to_owned();
            let before = edited.clone();
            for edit in edits.iter().rev().filter(|edit| edit.span.file == file) {
                edited.replace_range(edit.span.range(), &edit.text);
            }
            if edited != before {
                writeln!(text, "-- {}\n{edited}", sources.path(file)).unwrap();
            }
        }
        text
    }

    pub(crate) fn outline(&self) -> String {
        fn write(text: &mut String, outlined: &[Outlined], depth: usize) {
            for one in outlined {
                let head = format!("{} {}", one.detail, one.name);
                writeln!(text, "{}{}", "  ".repeat(depth), head.trim()).unwrap();
                write(text, &one.children, depth + 1);
            }
        }
        let mut text = String::new();
        write(&mut text, &crate::outline(&self.policies, self.file), 0);
        text
    }

    pub(crate) fn search(&self, query: &str) -> Vec<String> {
        let found = crate::search(&self.policies, query).into_iter();
        found
            .map(|listed| match listed.container.as_str() {
                "" => listed.name,
                owner => format!("{owner}/{}", listed.name),
            })
            .collect()
    }

    pub(crate) fn complete(&self) -> Vec<Completion> {
        crate::complete(&self.policies, self.file, self.offset)
    }

    fn mesh(&self) -> Option<LinkedMesh> {
        let analysed = mesh_compiler::load(Input {
            sources: self.policies.sources(),
            environment: "default",
            root_path: "",
        });
        analysed.mesh
    }

    pub(crate) fn hover(&self) -> String {
        let mesh = self.mesh();
        let compiled = mesh.as_ref().map(|mesh| Compiled {
            mesh,
            sources: self.policies.sources(),
        });
        crate::hover(&self.policies, compiled, self.file, self.offset)
            .map_or_else(String::new, |hover| hover.markdown)
    }
}
