//! What a client asks and tells while the conversation runs.

use std::path::PathBuf;

use lsp_types::{
    CodeActionParams, CompletionParams, CompletionTriggerKind, DidChangeTextDocumentParams,
    DidCloseTextDocumentParams, DidOpenTextDocumentParams, DocumentFormattingParams,
    DocumentHighlight, DocumentHighlightKind, DocumentSymbolParams, FoldingRange, FoldingRangeKind,
    FoldingRangeParams, HoverParams, Location, ReferenceParams, RenameParams, SymbolInformation,
    TextDocumentPositionParams, Uri, WorkspaceSymbolParams,
};
use mesh_editor::{Compiled, Definition, Outlined, Policies};
use mesh_syntax::{FileId, FormatError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::actions;
use super::convert::{Places, completion_item, marked_up, symbol_kind, workspace_edit};
use super::message::{ErrorCode, RpcError};
use super::position::Encoding;
use super::session::Session;
use super::uri;

/// Where a question is asked.
struct At<'w> {
    policies: &'w Policies,
    file: FileId,
    offset: usize,
    root: Option<PathBuf>,
}

impl At<'_> {
    fn text(&self) -> &str {
        self.policies.sources().text(self.file).unwrap_or_default()
    }
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    serde_json::from_value(params)
        .map_err(|error| RpcError::new(ErrorCode::InvalidParams, error.to_string()))
}

fn written(value: impl serde::Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(value)
        .map_err(|error| RpcError::new(ErrorCode::InternalError, error.to_string()))
}

impl Session<'_> {
    /// Answers a request.
    pub(super) fn asked_for(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "textDocument/hover" => self.hover(read(params)?),
            "textDocument/completion" => self.completion(read(params)?),
            "textDocument/definition" => self.definition(&read(params)?),
            "textDocument/references" => self.references(read(params)?),
            "textDocument/documentHighlight" => self.highlights(&read(params)?),
            "textDocument/documentSymbol" => self.document_symbols(&read(params)?),
            "workspace/symbol" => self.workspace_symbols(&read(params)?),
            "textDocument/foldingRange" => self.folds(&read(params)?),
            "textDocument/prepareRename" => self.prepare_rename(&read(params)?),
            "textDocument/rename" => self.rename(read(params)?),
            "textDocument/formatting" => self.format(&read(params)?),
            "textDocument/codeAction" => self.code_actions(&read(params)?),
            _ => Err(RpcError::new(
                ErrorCode::MethodNotFound,
                format!("meshc does not answer `{method}`"),
            )),
        }
    }

    /// Takes in what the client tells.
    pub(super) fn notified(&mut self, method: &str, params: Value) -> Result<(), RpcError> {
        match method {
            "initialized" => self.initialized(),
            "textDocument/didOpen" => self.opened(read(params)?),
            "textDocument/didChange" => self.changed(read(params)?),
            "textDocument/didClose" => {
                let params: DidCloseTextDocumentParams = read(params)?;
                let uri = params.text_document.uri.as_str();
                self.workspace.close(uri);
                self.find_roots_of_documents();
            }
            "textDocument/didSave" | "workspace/didChangeWatchedFiles" => {
                self.look();
                self.find_roots();
            }
            "workspace/didChangeWorkspaceFolders" => self.folders_changed(&params),
            // What a request is cancelled by was looked for when it was answered; the rest is not for this server.
            _ => {}
        }
        Ok(())
    }

    fn find_roots_of_documents(&mut self) {
        let gone = self.workspace.forget_unused();
        self.clear(gone);
    }

    fn opened(&mut self, params: DidOpenTextDocumentParams) {
        let document = params.text_document;
        let uri = document.uri.as_str().to_owned();
        match self.workspace.open(&uri, document.version, document.text) {
            Ok(true) => {}
            Ok(false) => self.log(
                3,
                &format!("{uri} is in no policy root, so it is not checked: no folder above it has a file with a `mesh` node"),
            ),
            Err(error) => self.show(2, &error.to_string()),
        }
    }

    fn changed(&mut self, params: DidChangeTextDocumentParams) {
        let document = params.text_document;
        let uri = document.uri.as_str();
        let known = self
            .workspace
            .change(uri, document.version, params.content_changes);
        if !known {
            self.log(2, &format!("{uri} was changed but is not open"));
        } else if !self.workspace.has_root(uri) {
            // A `mesh` node may have been written just now.
            self.find_roots();
        }
    }

    fn folders_changed(&mut self, params: &Value) {
        let paths = |which: &str| -> Vec<PathBuf> {
            let folders = params.pointer(&format!("/event/{which}"));
            let folders = folders.and_then(Value::as_array).into_iter().flatten();
            folders
                .filter_map(|folder| uri::to_path(folder.get("uri")?.as_str()?))
                .collect()
        };
        let removed = paths("removed");
        self.workspace
            .folders
            .retain(|folder| !removed.contains(folder));
        self.workspace.folders.extend(paths("added"));
        let gone = self.workspace.forget_unused();
        self.clear(gone);
        self.find_roots();
    }

    fn encoding(&self) -> Encoding {
        self.workspace.encoding
    }

    fn at(&mut self, params: &TextDocumentPositionParams) -> Result<At<'_>, RpcError> {
        let encoding = self.encoding();
        let (policies, file, root) = self.document(&params.text_document.uri)?;
        let text = policies.sources().text(file).unwrap_or_default();
        let offset = encoding.offset(text, params.position);
        Ok(At {
            policies,
            file,
            offset,
            root,
        })
    }

    fn document(&mut self, uri: &Uri) -> Result<(&Policies, FileId, Option<PathBuf>), RpcError> {
        self.workspace.policies_of(uri.as_str()).ok_or_else(|| {
            let text = format!("{} is not open and in no policy root", uri.as_str());
            RpcError::new(ErrorCode::InvalidParams, text)
        })
    }

    fn hover(&mut self, params: HoverParams) -> Result<Value, RpcError> {
        let (encoding, markdown) = (self.encoding(), self.client.markdown_hover);
        let position = params.text_document_position_params;
        let root = self.at(&position)?.root;
        let root = root.and_then(|folder| self.workspace.roots.get(&folder));
        let linked = root.and_then(|root| root.linked.clone());
        let findings: Vec<(mesh_syntax::Span, &str)> = root
            .and_then(|root| root.found.as_ref().map(|found| (root, found)))
            .map(|(root, found)| {
                let current = found
                    .findings
                    .iter()
                    .filter(|finding| root.sources.is_same(&found.sources, finding.span.file));
                current
                    .map(|finding| (finding.span, finding.code))
                    .collect()
            })
            .unwrap_or_default();
        let at = self.at(&position)?;
        let compiled = linked.as_deref().and_then(|(sources, compiled)| {
            let mesh = compiled.mesh()?;
            Some(Compiled { mesh, sources })
        });
        let hover = mesh_editor::hover(at.policies, compiled, at.file, at.offset);
        let mut codes: Vec<(mesh_syntax::Span, &str)> = findings
            .into_iter()
            .filter(|(span, _)| {
                span.file == at.file
                    && span.range().start <= at.offset
                    && at.offset <= span.range().end
            })
            .collect();
        codes.dedup_by_key(|(_, code)| *code);
        let pages = codes
            .iter()
            .filter_map(|(_, code)| mesh_editor::reason(code));
        let texts: Vec<String> = hover
            .iter()
            .map(|hover| hover.markdown.clone())
            .chain(pages)
            .collect();
        let span = hover.map(|hover| hover.span);
        let Some(span) = span.or_else(|| codes.first().map(|(span, _)| *span)) else {
            return Ok(Value::Null);
        };
        let range = encoding.range(at.policies.sources(), span);
        let contents = marked_up(texts.join("\n\n---\n\n"), markdown);
        Ok(json!({ "contents": contents, "range": range }))
    }

    fn completion(&mut self, params: CompletionParams) -> Result<Value, RpcError> {
        let (encoding, client) = (self.encoding(), self.client);
        let context = params.context;
        let at = self.at(&params.text_document_position)?;
        let triggered = context.is_some_and(|context| {
            context.trigger_kind == CompletionTriggerKind::TRIGGER_CHARACTER
                && context.trigger_character.as_deref() == Some(" ")
        });
        // A blank that only indents asks for nothing.
        let before = at.text().get(..at.offset).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        if triggered && line.trim().is_empty() {
            return Ok(json!([]));
        }
        let found = mesh_editor::complete(at.policies, at.file, at.offset);
        let items = found.into_iter().enumerate().map(|(index, completion)| {
            completion_item(at.text(), encoding, client, index, completion)
        });
        written(items.collect::<Vec<_>>())
    }

    fn definition(&mut self, params: &lsp_types::GotoDefinitionParams) -> Result<Value, RpcError> {
        let at = self.at(&params.text_document_position_params)?;
        let root = at.root.clone();
        let found = mesh_editor::definitions(at.policies, at.file, at.offset);
        let mut locations = Vec::new();
        for definition in found {
            match definition {
                Definition::At(span) => {
                    locations.extend(self.locations(
                        root.as_ref(),
                        &params.text_document_position_params,
                        &[span],
                    )?);
                }
                Definition::Library(name) => {
                    let path = self.library_file(name).map_err(|error| {
                        RpcError::new(ErrorCode::RequestFailed, error.to_string())
                    })?;
                    let uri = uri::of_path(&path).parse::<Uri>();
                    let text = mesh_editor::library_text(name).unwrap_or_default();
                    let offset = text
                        .find("\npolicy ")
                        .map_or(0, |at| at + "\npolicy ".len());
                    let position = self.encoding().position(text, offset);
                    locations.extend(uri.ok().map(|uri| Location {
                        uri,
                        range: lsp_types::Range::new(position, position),
                    }));
                }
            }
        }
        written(locations)
    }

    /// Where spans of the policies that a question was asked in are.
    fn locations(
        &mut self,
        root: Option<&PathBuf>,
        asked: &TextDocumentPositionParams,
        spans: &[mesh_syntax::Span],
    ) -> Result<Vec<Location>, RpcError> {
        let encoding = self.encoding();
        let sources = {
            let at = self.at(asked)?;
            at.policies.sources().clone()
        };
        let top = root.and_then(|folder| self.workspace.roots.get(folder));
        let uri_of = |file: FileId| match top {
            Some(root) => self.workspace.uri_of(&root.path_of(sources.path(file))),
            None => asked.text_document.uri.as_str().to_owned(),
        };
        let places = Places {
            sources: &sources,
            encoding,
            client: self.client,
            uri: &uri_of,
        };
        Ok(spans
            .iter()
            .filter_map(|span| places.location(*span))
            .collect())
    }

    fn references(&mut self, params: ReferenceParams) -> Result<Value, RpcError> {
        let asked = params.text_document_position;
        let at = self.at(&asked)?;
        let with_definition = params.context.include_declaration;
        let spans = mesh_editor::references(at.policies, at.file, at.offset, with_definition);
        let root = at.root;
        written(self.locations(root.as_ref(), &asked, &spans)?)
    }

    fn highlights(
        &mut self,
        params: &lsp_types::DocumentHighlightParams,
    ) -> Result<Value, RpcError> {
        let encoding = self.encoding();
        let at = self.at(&params.text_document_position_params)?;
        let found = mesh_editor::highlights(at.policies, at.file, at.offset);
        let highlights = found.into_iter().map(|(span, defined)| DocumentHighlight {
            range: encoding.range(at.policies.sources(), span),
            kind: Some(if defined {
                DocumentHighlightKind::WRITE
            } else {
                DocumentHighlightKind::READ
            }),
        });
        written(highlights.collect::<Vec<_>>())
    }

    fn document_symbols(&mut self, params: &DocumentSymbolParams) -> Result<Value, RpcError> {
        let encoding = self.encoding();
        let (policies, file, _) = self.document(&params.text_document.uri)?;
        let symbols = mesh_editor::outline(policies, file);
        let text = policies.sources().text(file).unwrap_or_default();
        Ok(symbols_json(&symbols, text, encoding))
    }

    fn workspace_symbols(&mut self, params: &WorkspaceSymbolParams) -> Result<Value, RpcError> {
        let encoding = self.encoding();
        let mut listed = Vec::new();
        let folders: Vec<PathBuf> = self.workspace.roots.keys().cloned().collect();
        for folder in folders {
            let Some(root) = self.workspace.roots.get_mut(&folder) else {
                continue;
            };
            let found = mesh_editor::search(root.policies(), &params.query);
            let root = self.workspace.roots.get(&folder);
            let Some(root) = root else { continue };
            let sources = &root.sources;
            let uri_of = |file: FileId| self.workspace.uri_of(&root.path_of(sources.path(file)));
            let places = Places {
                sources,
                encoding,
                client: self.client,
                uri: &uri_of,
            };
            listed.extend(found.into_iter().filter_map(|found| {
                #[expect(deprecated, reason = "the field has no default")]
                Some(SymbolInformation {
                    name: found.name,
                    kind: symbol_kind(Some(found.kind)),
                    tags: None,
                    deprecated: None,
                    location: places.location(found.span)?,
                    container_name: Some(found.container).filter(|name| !name.is_empty()),
                })
            }));
        }
        written(listed)
    }

    fn folds(&mut self, params: &FoldingRangeParams) -> Result<Value, RpcError> {
        let encoding = self.encoding();
        let (policies, file, _) = self.document(&params.text_document.uri)?;
        let text = policies.sources().text(file).unwrap_or_default();
        let folds = mesh_editor::folds(policies, file).into_iter();
        let folds = folds.filter_map(|fold| {
            let range = encoding.range_in(text, &(fold.start..fold.end));
            (range.start.line < range.end.line).then(|| FoldingRange {
                start_line: range.start.line,
                start_character: None,
                end_line: range.end.line,
                end_character: None,
                kind: fold.comment.then_some(FoldingRangeKind::Comment),
                collapsed_text: None,
            })
        });
        written(folds.collect::<Vec<_>>())
    }

    fn prepare_rename(&mut self, params: &TextDocumentPositionParams) -> Result<Value, RpcError> {
        let encoding = self.encoding();
        let at = self.at(params)?;
        let found = mesh_editor::prepare(at.policies, at.file, at.offset)
            .map_err(|why| RpcError::new(ErrorCode::RequestFailed, why.0))?;
        let range = encoding.range(at.policies.sources(), found.span);
        Ok(json!({ "range": range, "placeholder": found.name }))
    }

    fn rename(&mut self, params: RenameParams) -> Result<Value, RpcError> {
        let encoding = self.encoding();
        let asked = params.text_document_position;
        let at = self.at(&asked)?;
        let edits = mesh_editor::rename(at.policies, at.file, at.offset, &params.new_name)
            .map_err(|why| RpcError::new(ErrorCode::RequestFailed, why.0))?;
        let root = at.root.clone();
        let sources = at.policies.sources().clone();
        let top = root.and_then(|folder| self.workspace.roots.get(&folder));
        let uri_of = |file: FileId| match top {
            Some(root) => self.workspace.uri_of(&root.path_of(sources.path(file))),
            None => asked.text_document.uri.as_str().to_owned(),
        };
        let places = Places {
            sources: &sources,
            encoding,
            client: self.client,
            uri: &uri_of,
        };
        Ok(self.edit(places.edits(&edits)))
    }

    /// Edits in the form that the client takes.
    pub(super) fn edit(
        &self,
        edits: std::collections::BTreeMap<String, Vec<lsp_types::TextEdit>>,
    ) -> Value {
        let version_of = |uri: &str| {
            let document = self.workspace.documents.get(uri);
            document.map(|document| document.version)
        };
        workspace_edit(edits, self.client.versioned_edits, &version_of)
    }

    /// The edit that formats a document; none where it is formatted, or has mistakes, which findings tell.
    fn format(&mut self, params: &DocumentFormattingParams) -> Result<Value, RpcError> {
        let encoding = self.encoding();
        let (policies, file, _) = self.document(&params.text_document.uri)?;
        let sources = policies.sources();
        let text = sources.text(file).unwrap_or_default();
        let formatted = match mesh_syntax::format(sources, file) {
            Ok(Some(formatted)) => formatted,
            Ok(None) | Err(FormatError::Mistakes(_)) => return Ok(json!([])),
            Err(FormatError::Fault) => {
                let text = "meshc would not format this file as it means; it is left alone, please report it";
                return Err(RpcError::new(ErrorCode::RequestFailed, text));
            }
        };
        let (range, new_text) = difference(text, &formatted);
        let range = encoding.range_in(text, &range);
        Ok(json!([{ "range": range, "newText": new_text }]))
    }

    fn code_actions(&mut self, params: &CodeActionParams) -> Result<Value, RpcError> {
        let (_, _, root) = self.document(&params.text_document.uri)?;
        let root = root.and_then(|folder| self.workspace.roots.get(&folder));
        Ok(match root {
            Some(root) => actions::actions(self, root, params),
            None => json!([]),
        })
    }
}

/// What is replaced by what, without the lines that both begin and end with, so that cursors elsewhere stay.
fn difference<'t>(before: &str, after: &'t str) -> (std::ops::Range<usize>, &'t str) {
    let lines = |text: &'t str| text.split_inclusive('\n');
    let same = |pairs: &mut dyn Iterator<Item = (&str, &str)>| -> usize {
        let same = pairs.take_while(|(one, other)| one == other);
        same.map(|(line, _)| line.len()).sum()
    };
    let start = same(&mut before.split_inclusive('\n').zip(lines(after)));
    let before_rest = before.get(start..).unwrap_or_default();
    let after_rest = after.get(start..).unwrap_or_default();
    let end = same(
        &mut before_rest
            .split_inclusive('\n')
            .rev()
            .zip(lines(after_rest).rev()),
    );
    let new_text = after_rest.get(..after_rest.len() - end);
    (start..before.len() - end, new_text.unwrap_or_default())
}

fn symbols_json(symbols: &[Outlined], text: &str, encoding: Encoding) -> Value {
    let symbols = symbols.iter().map(|symbol| {
        json!({
            "name": symbol.name,
            "detail": symbol.detail,
            "kind": symbol_kind(symbol.kind),
            "range": encoding.range_in(text, &symbol.span.range()),
            "selectionRange": encoding.range_in(text, &symbol.selection.range()),
            "children": symbols_json(&symbol.children, text, encoding),
        })
    });
    symbols.collect()
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn only_what_differs_is_replaced() {
        for (before, after) in [
            ("a\nb\nc\n", "a\nx\ny\nc\n"),
            ("a\na\n", "a\na\na\n"),
            ("a\na\na\n", "a\n"),
            ("", "a\n"),
            ("a", "a\n"),
            ("a\n", "a\n"),
        ] {
            let (range, new) = difference(before, after);
            let mut text = before.to_owned();
            text.replace_range(range, new);
            assert_eq!(text, after);
        }
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\n"), (2..4, "x\n"));
    }
}
