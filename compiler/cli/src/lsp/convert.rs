//! What the compiler says, in the words of the protocol.

use std::collections::BTreeMap;

use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionTextEdit, Diagnostic,
    DiagnosticRelatedInformation, DiagnosticSeverity, DiagnosticTag, Documentation,
    InsertTextFormat, Location, MarkupContent, MarkupKind, NumberOrString, SymbolKind, TextEdit,
    Uri,
};
use mesh_compiler::trial::request_text;
use mesh_editor::{Completion, CompletionKind, Kind};
use mesh_syntax::{Edit, FileId, Level, SourceSet, Span};
use serde_json::{Value, json};

use super::plain::plain;
use super::position::Encoding;
use super::session::Client;

/// Names, or their beginnings, of findings about something that could be left out.
const UNNECESSARY: &[&str] = &["dead-", "idle-", "redundant-", "shadowed-", "unused-"];
/// Names of findings about spellings of the past.
const DEPRECATED: &[&str] = &["source/kdl-1-spelling"];

/// Where files are, for who writes places of them.
pub(super) struct Places<'a> {
    pub(super) sources: &'a SourceSet,
    pub(super) encoding: Encoding,
    pub(super) client: Client,
    pub(super) uri: &'a dyn Fn(FileId) -> String,
}

impl Places<'_> {
    pub(super) fn location(&self, span: Span) -> Option<Location> {
        Some(Location {
            uri: (self.uri)(span.file).parse::<Uri>().ok()?,
            range: self.encoding.range(self.sources, span),
        })
    }

    pub(super) fn diagnostic(&self, found: &mesh_syntax::Diagnostic) -> Diagnostic {
        let labels = found.labels.iter();
        let related: Vec<DiagnosticRelatedInformation> = labels
            .filter_map(|label| {
                Some(DiagnosticRelatedInformation {
                    location: self.location(label.span)?,
                    message: label.message.clone(),
                })
            })
            .collect();
        Diagnostic {
            range: self.encoding.range(self.sources, found.span),
            severity: Some(match found.level {
                Level::Error => DiagnosticSeverity::ERROR,
                Level::Warning => DiagnosticSeverity::WARNING,
                Level::Note => DiagnosticSeverity::INFORMATION,
            }),
            code: Some(NumberOrString::String(found.code.to_owned())),
            source: Some("meshc".to_owned()),
            message: self.message(found),
            related_information: (self.client.related && !related.is_empty()).then_some(related),
            tags: tags(found).filter(|_| self.client.tags),
            ..Diagnostic::default()
        }
    }

    /// What is wrong, what to do, and a request that shows it; and the other places, for who can show them in no better way.
    fn message(&self, found: &mesh_syntax::Diagnostic) -> String {
        let mut text = found.message.clone();
        if let Some(label) = &found.span_label {
            text.extend([": ", label]);
        }
        if let Some(help) = &found.help {
            text.extend(["\nhelp: ", help]);
        }
        if let Some(witness) = &found.witness {
            text.extend(["\nfor example: ", request_text(witness).trim()]);
        }
        for label in found.labels.iter().filter(|_| !self.client.related) {
            let (line, _) = self.sources.line_column(label.span);
            let path = self.sources.path(label.span.file);
            text.extend([format!("\n{path}:{line}: {}", label.message)]);
        }
        text
    }

    /// The edits of each file, by its URI.
    pub(super) fn edits(&self, edits: &[Edit]) -> BTreeMap<String, Vec<TextEdit>> {
        let mut by_uri: BTreeMap<String, Vec<TextEdit>> = BTreeMap::new();
        for edit in edits {
            by_uri
                .entry((self.uri)(edit.span.file))
                .or_default()
                .push(TextEdit {
                    range: self.encoding.range(self.sources, edit.span),
                    new_text: edit.text.clone(),
                });
        }
        by_uri
    }
}

fn tags(found: &mesh_syntax::Diagnostic) -> Option<Vec<DiagnosticTag>> {
    let name = found.name.rsplit('/').next().unwrap_or_default();
    if UNNECESSARY.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(vec![DiagnosticTag::UNNECESSARY]);
    }
    DEPRECATED
        .contains(&found.name)
        .then(|| vec![DiagnosticTag::DEPRECATED])
}

/// Edits of several files as the client wants them: with the versions that they are for, where it knows those.
pub(super) fn workspace_edit(
    edits: BTreeMap<String, Vec<TextEdit>>,
    versioned: bool,
    version_of: &dyn Fn(&str) -> Option<i32>,
) -> Value {
    if !versioned {
        return json!({ "changes": edits });
    }
    let changes: Vec<Value> = edits
        .into_iter()
        .map(|(uri, edits)| {
            let version = version_of(&uri);
            json!({ "textDocument": { "uri": uri, "version": version }, "edits": edits })
        })
        .collect();
    json!({ "documentChanges": changes })
}

/// A text that was written as Markdown; who does not know that reads it without its marks.
pub(super) fn marked_up(value: String, markdown: bool) -> MarkupContent {
    if markdown {
        let kind = MarkupKind::Markdown;
        return MarkupContent { kind, value };
    }
    MarkupContent {
        kind: MarkupKind::PlainText,
        value: plain(&value),
    }
}

pub(super) fn completion_item(
    text: &str,
    encoding: Encoding,
    client: Client,
    index: usize,
    completion: Completion,
) -> CompletionItem {
    let new_text = match &completion.snippet {
        Some(snippet) if client.snippets => snippet.clone(),
        _ => completion.label.clone(),
    };
    let is_snippet = client.snippets && completion.snippet.is_some();
    CompletionItem {
        kind: Some(match completion.kind {
            CompletionKind::Word => CompletionItemKind::KEYWORD,
            CompletionKind::Property => CompletionItemKind::PROPERTY,
            CompletionKind::Value => CompletionItemKind::ENUM_MEMBER,
            CompletionKind::Name(Kind::Service) => CompletionItemKind::CLASS,
            CompletionKind::Name(Kind::Policy) => CompletionItemKind::MODULE,
            CompletionKind::Name(Kind::Code) => CompletionItemKind::CONSTANT,
            CompletionKind::Name(_) => CompletionItemKind::REFERENCE,
        }),
        detail: Some(completion.detail).filter(|detail| !detail.is_empty()),
        documentation: Some(completion.documentation)
            .filter(|text| !text.is_empty())
            .map(|text| {
                if client.markdown_completion {
                    Documentation::MarkupContent(marked_up(text, true))
                } else {
                    Documentation::String(plain(&text))
                }
            }),
        // Values and names come before properties, as the compiler gives them.
        sort_text: Some(format!("{index:04}")),
        insert_text_format: is_snippet.then_some(InsertTextFormat::SNIPPET),
        text_edit: Some(CompletionTextEdit::Edit(TextEdit {
            range: encoding.range_in(text, &completion.replace),
            new_text,
        })),
        label: completion.label,
        ..CompletionItem::default()
    }
}

pub(super) fn symbol_kind(kind: Option<Kind>) -> SymbolKind {
    match kind {
        Some(Kind::Mesh) => SymbolKind::NAMESPACE,
        Some(Kind::Service) => SymbolKind::CLASS,
        Some(Kind::Policy) => SymbolKind::MODULE,
        Some(Kind::Team) => SymbolKind::PACKAGE,
        Some(Kind::Jwt | Kind::Authorizer) => SymbolKind::KEY,
        Some(Kind::Environment) => SymbolKind::ENUM_MEMBER,
        Some(Kind::Subset) => SymbolKind::STRUCT,
        Some(Kind::Route) => SymbolKind::METHOD,
        Some(Kind::Code) => SymbolKind::CONSTANT,
        None => SymbolKind::PROPERTY,
    }
}
