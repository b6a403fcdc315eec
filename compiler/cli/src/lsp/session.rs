//! One conversation with an editor: its beginning and end, what changes, and when policies are checked.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::convert::Places;
use super::message::{self, ErrorCode, Incoming, ReadError, RpcError};
use super::position::Encoding;
use super::uri;
use super::worker::{self, Done, Job};
use super::workspace::{Found, Workspace};
use crate::args::Place;
use crate::exit_code::Exit;

/// Messages that wait to be handled; a client that sends more waits itself.
const WAITING_MAX: usize = 256;
/// After a change a check waits for an eighth of the time that checks take, within these bounds, for more changes: what a
/// client sends in a burst comes within milliseconds, and who types faster than checks take is not helped by waiting.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(150);
/// How often the disk is looked at, at most.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Looking takes at most this share of the time.
const LOOKING_SHARE: u32 = 20;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The client sent something.
    Message(Incoming),
    /// The client sends nothing more.
    Closed(Option<ReadError>),
    /// Policies were checked.
    Checked(Box<Done>),
}

/// How far the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    ShutDown,
}

/// What the client can do, as far as it matters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    pub(super) snippets: bool,
    pub(super) versioned_edits: bool,
    pub(super) markdown_hover: bool,
    pub(super) markdown_completion: bool,
    pub(super) related: bool,
    pub(super) tags: bool,
    progress: bool,
    watches_files: bool,
}

/// The conversation.
pub(super) struct Session<'p> {
    place: &'p Place,
    phase: Phase,
    pub(super) client: Client,
    pub(super) workspace: Workspace,
    output: Sender<Value>,
    jobs: Sender<Job>,
    asked: u64,
    /// Progress that is shown, by root.
    progress: BTreeMap<PathBuf, String>,
    looks_at: Instant,
    /// Where files of the standard library are put for the editor to open.
    library: Option<TempDir>,
}

/// Talks to the client at standard input and output until it ends.
pub(crate) fn run(place: &Place) -> io::Result<Exit> {
    let (events, received) = sync_channel(WAITING_MAX);
    let (output, written) = channel::<Value>();
    let reader = events.clone();
    thread::Builder::new()
        .name("read".to_owned())
        .spawn(move || read(&reader))?;
    let writer = thread::Builder::new()
        .name("write".to_owned())
        .spawn(move || {
            let mut stdout = io::stdout().lock();
            // A client that went away closes its other end too, which ends the session.
            written
                .iter()
                .try_for_each(|message| message::write(&mut stdout, &message))
        })?;
    let mut session = Session {
        place,
        phase: Phase::New,
        client: Client::default(),
        workspace: Workspace::default(),
        output,
        jobs: worker::start(events)?,
        asked: 0,
        progress: BTreeMap::new(),
        looks_at: Instant::now(),
        library: None,
    };
    let exit = session.converse(&received);
    drop(session);
    // What is left to be said is said before the program ends.
    drop(writer.join());
    exit
}

fn read(events: &SyncSender<Event>) {
    let mut input = BufReader::new(io::stdin().lock());
    loop {
        let event = match message::read(&mut input) {
            Ok(Some(message)) => Event::Message(message),
            Ok(None) => Event::Closed(None),
            Err(error) => Event::Closed(Some(error)),
        };
        let closed = matches!(event, Event::Closed(_));
        if events.send(event).is_err() || closed {
            return;
        }
    }
}

/// Whether a request that waits is cancelled by a later message.
fn is_cancelled(waiting: &VecDeque<Event>, id: &Value) -> bool {
    waiting.iter().any(|event| {
        matches!(event, Event::Message(Incoming::Notification { method, params })
            if method == "$/cancelRequest" && params.get("id") == Some(id))
    })
}

impl Session<'_> {
    fn converse(&mut self, events: &Receiver<Event>) -> io::Result<Exit> {
        let mut waiting = VecDeque::new();
        loop {
            let event = match waiting.pop_front() {
                Some(event) => Some(event),
                None => match events.recv_timeout(self.pause()) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Findings),
                },
            };
            while waiting.len() < WAITING_MAX
                && let Ok(more) = events.try_recv()
            {
                waiting.push_back(more);
            }
            match event {
                Some(Event::Message(incoming)) => {
                    if let Some(exit) = self.message(incoming, &waiting) {
                        return Ok(exit);
                    }
                }
                Some(Event::Closed(Some(error))) => return Err(io::Error::other(error)),
                // Who closes without a word has crashed, or was not told how to end.
                Some(Event::Closed(None)) => return Ok(self.ended()),
                Some(Event::Checked(done)) => self.checked(*done),
                None => {}
            }
            self.tick();
        }
    }

    fn ended(&self) -> Exit {
        Exit::from_clean(self.phase == Phase::ShutDown)
    }

    fn message(&mut self, incoming: Incoming, waiting: &VecDeque<Event>) -> Option<Exit> {
        match incoming {
            Incoming::Request { id, method, params } => {
                let result = if is_cancelled(waiting, &id) {
                    Err(RpcError::new(ErrorCode::Cancelled, "cancelled"))
                } else {
                    self.request(&method, params)
                };
                self.send(message::response(&id, result));
            }
            Incoming::Notification { method, .. } if method == "exit" => return Some(self.ended()),
            Incoming::Notification { method, params } if self.phase == Phase::Running => {
                if let Err(error) = self.notified(&method, params) {
                    self.log(2, &format!("{method}: {}", error.message));
                }
            }
            // Before `initialize` and after `shutdown` nothing else counts.
            Incoming::Notification { .. } | Incoming::Response => {}
            Incoming::Malformed { id, error } => self.send(message::response(&id, Err(error))),
        }
        None
    }

    fn request(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        let invalid = |text: &str| Err(RpcError::new(ErrorCode::InvalidRequest, text));
        match (self.phase, method) {
            (Phase::New, "initialize") => self.initialize(&params),
            (Phase::New, _) => Err(RpcError::new(
                ErrorCode::NotInitialized,
                "the first request is `initialize`",
            )),
            (Phase::ShutDown, _) => invalid("after `shutdown` there is only `exit`"),
            (Phase::Running, "initialize") => invalid("`initialize` was sent before"),
            (Phase::Running, "shutdown") => {
                self.phase = Phase::ShutDown;
                Ok(Value::Null)
            }
            (Phase::Running, _) => self.asked_for(method, params),
        }
    }

    fn initialize(&mut self, params: &Value) -> Result<Value, RpcError> {
        if !params.is_object() {
            return Err(RpcError::new(
                ErrorCode::InvalidParams,
                "`initialize` needs its parameters",
            ));
        }
        let found = |pointer: &str| params.pointer(&format!("/capabilities/{pointer}"));
        let can = |pointer: &str| found(pointer).and_then(Value::as_bool).unwrap_or(false);
        let lists = |pointer: &str, wanted: &str| {
            let listed = found(pointer).and_then(Value::as_array);
            listed.is_some_and(|listed| listed.iter().any(|one| one == wanted))
        };
        self.client = Client {
            snippets: can("textDocument/completion/completionItem/snippetSupport"),
            markdown_hover: lists("textDocument/hover/contentFormat", "markdown"),
            markdown_completion: lists(
                "textDocument/completion/completionItem/documentationFormat",
                "markdown",
            ),
            related: can("textDocument/publishDiagnostics/relatedInformation"),
            tags: found("textDocument/publishDiagnostics/tagSupport").is_some(),
            versioned_edits: can("workspace/workspaceEdit/documentChanges"),
            progress: can("window/workDoneProgress"),
            watches_files: can("workspace/didChangeWatchedFiles/dynamicRegistration"),
        };
        if lists("general/positionEncodings", Encoding::Utf8.name()) {
            self.workspace.encoding = Encoding::Utf8;
        }
        self.workspace.folders = folders(params);
        if self.workspace.folders.is_empty() {
            self.workspace.folders.extend(self.place.folder.clone());
        }
        self.phase = Phase::Running;
        Ok(json!({
            "capabilities": capabilities(self.workspace.encoding),
            "serverInfo": { "name": "meshc", "version": env!("CARGO_PKG_VERSION") },
        }))
    }

    /// The client is ready to be asked and told things.
    pub(super) fn initialized(&mut self) {
        if self.client.watches_files {
            let watchers = [
                json!({ "globPattern": "**/*.kdl" }),
                json!({ "globPattern": "**/*.jwks.json" }),
            ];
            let registration = json!({ "registrations": [{
                "id": "policy-files",
                "method": "workspace/didChangeWatchedFiles",
                "registerOptions": { "watchers": watchers },
            }] });
            self.ask("client/registerCapability", &registration);
        }
        self.find_roots();
    }

    /// Looks for policy roots in the folders of the workspace.
    pub(super) fn find_roots(&mut self) {
        for error in self.workspace.find_roots() {
            self.show(2, &error.to_string());
        }
    }

    pub(super) fn send(&self, message: Value) {
        // Who can no longer be told anything has gone, and the session ends with its input.
        drop(self.output.send(message));
    }

    pub(super) fn tell(&self, method: &str, params: &Value) {
        self.send(message::notification(method, params));
    }

    fn ask(&mut self, method: &str, params: &Value) {
        self.asked += 1;
        self.send(message::request(self.asked, method, params));
    }

    /// Writes to the client's log; 1 is an error, 2 a warning, 3 information.
    pub(super) fn log(&self, kind: u8, text: &str) {
        self.tell(
            "window/logMessage",
            &json!({ "type": kind, "message": text }),
        );
    }

    /// Shows something to the person.
    pub(super) fn show(&self, kind: u8, text: &str) {
        self.tell(
            "window/showMessage",
            &json!({ "type": kind, "message": text }),
        );
    }

    /// How long nothing has to be done.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let ready = self.workspace.roots.values().filter_map(|root| {
            root.checker.as_ref()?;
            Some(ready_at(root.due?, root.takes))
        });
        let next = ready.chain([self.looks_at]).min();
        next.map_or(LOOKS_EVERY, |next| next.saturating_duration_since(now))
    }

    /// Does what is due.
    fn tick(&mut self) {
        if self.phase != Phase::Running {
            self.looks_at = Instant::now() + LOOKS_EVERY;
            return;
        }
        let now = Instant::now();
        if self.looks_at <= now {
            self.look();
            self.looks_at = Instant::now() + (now.elapsed() * LOOKING_SHARE).max(LOOKS_EVERY);
        }
        let ready = |(_, root): &(&PathBuf, &super::workspace::Root)| {
            root.checker.is_some() && root.due.is_some_and(|due| ready_at(due, root.takes) <= now)
        };
        let ready: Vec<PathBuf> = self
            .workspace
            .roots
            .iter()
            .filter(ready)
            .map(|(folder, _)| folder.clone())
            .collect();
        for folder in ready {
            self.check(&folder);
        }
    }

    /// Looks whether something changed on the disk.
    pub(super) fn look(&mut self) {
        let cleared = self.workspace.look();
        self.clear(cleared);
    }

    /// Shows nothing for these any more.
    pub(super) fn clear(&self, uris: Vec<String>) {
        for uri in uris {
            let nothing = json!({ "uri": uri, "diagnostics": [] });
            self.tell("textDocument/publishDiagnostics", &nothing);
        }
    }

    fn check(&mut self, folder: &PathBuf) {
        let Workspace {
            documents, roots, ..
        } = &mut self.workspace;
        let Some(root) = roots.get_mut(folder) else {
            return;
        };
        let Some(checker) = root.checker.take() else {
            return;
        };
        root.due = None;
        let documents = documents.values();
        let versions = documents
            .filter(|document| document.root.as_ref() == Some(folder))
            .filter_map(|document| {
                Some((root.name_of(document.path.as_deref()?)?, document.version))
            });
        let job = Job {
            root: folder.clone(),
            sources: root.sources.clone(),
            root_path: root.folder.clone(),
            versions: versions.collect(),
            today: self.place.today(),
            environment: self.place.environment.clone(),
            checker,
        };
        let first = root.found.is_none();
        let files = root.sources.files().len();
        // The worker outlives the session.
        drop(self.jobs.send(job));
        if first && self.client.progress {
            self.begin_progress(folder, files);
        }
    }

    fn begin_progress(&mut self, folder: &Path, files: usize) {
        let token = format!("check {}", self.asked + 1);
        self.ask("window/workDoneProgress/create", &json!({ "token": token }));
        let message = format!("{files} files");
        let value = json!({ "kind": "begin", "title": "meshc: checking", "message": message });
        self.tell("$/progress", &json!({ "token": token, "value": value }));
        self.progress.insert(folder.to_path_buf(), token);
    }

    fn checked(&mut self, done: Done) {
        if let Some(token) = self.progress.remove(&done.root) {
            let end = json!({ "token": token, "value": { "kind": "end" } });
            self.tell("$/progress", &end);
        }
        let Some(root) = self.workspace.roots.get_mut(&done.root) else {
            return;
        };
        root.checker = Some(done.checker);
        root.takes = done.took;
        let Some(compiled) = done.compiled else {
            self.show(1, "meshc failed while it checked these policies; please report it, with them if you may");
            return;
        };
        let findings: Vec<mesh_syntax::Diagnostic> =
            compiled.shown().map(std::borrow::Cow::into_owned).collect();
        root.found = Some(Found {
            sources: done.sources.clone(),
            findings,
        });
        // A large mesh takes a while to let go of: after the findings are shown.
        let mut before = None;
        if compiled.mesh().is_some() {
            before = root.linked.replace(Arc::new((done.sources, compiled)));
        }
        self.publish(&done.root, &done.versions);
        drop(before);
    }

    /// Shows the findings of a root, file by file. A document that changed meanwhile keeps what it has: it is checked
    /// again in a moment, and until then the editor moves the old ones along.
    fn publish(&mut self, folder: &PathBuf, versions: &BTreeMap<String, i32>) {
        let workspace = &self.workspace;
        let Some((root, found)) = workspace
            .roots
            .get(folder)
            .and_then(|root| Some((root, root.found.as_ref()?)))
        else {
            return;
        };
        let uri_of = |file| workspace.uri_of(&root.path_of(found.sources.path(file)));
        let places = Places {
            sources: &found.sources,
            encoding: workspace.encoding,
            client: self.client,
            uri: &uri_of,
        };
        let mut by_uri: BTreeMap<String, Vec<lsp_types::Diagnostic>> = BTreeMap::new();
        for uri in root.shown.keys() {
            by_uri.entry(uri.clone()).or_default();
        }
        for (uri, document) in &workspace.documents {
            if document.root.as_ref() == Some(folder) {
                by_uri.entry(uri.clone()).or_default();
            }
        }
        for finding in &found.findings {
            let uri = uri_of(finding.span.file);
            by_uri
                .entry(uri)
                .or_default()
                .push(places.diagnostic(finding));
        }
        let mut shown = BTreeMap::new();
        let mut told = Vec::new();
        for (uri, diagnostics) in by_uri {
            let before = root.shown.get(&uri);
            let mut params = json!({ "uri": uri, "diagnostics": diagnostics });
            if let Some(document) = workspace.documents.get(&uri) {
                let name = document.path.as_deref().and_then(|path| root.name_of(path));
                let version = name.and_then(|name| versions.get(&name));
                if version != Some(&document.version) {
                    shown.extend(before.map(|before| (uri, before.clone())));
                    continue;
                }
                params["version"] = json!(version);
                told.push(params);
            } else if before.map_or(!diagnostics.is_empty(), |before| *before != diagnostics) {
                told.push(params);
            }
            if !diagnostics.is_empty() || workspace.documents.contains_key(&uri) {
                shown.insert(uri, diagnostics);
            }
        }
        for params in told {
            self.tell("textDocument/publishDiagnostics", &params);
        }
        if let Some(root) = self.workspace.roots.get_mut(folder) {
            root.shown = shown;
        }
    }

    /// The file of a policy of the standard library, put where an editor can open it.
    pub(super) fn library_file(&mut self, name: &str) -> io::Result<PathBuf> {
        let text = mesh_editor::library_text(name).unwrap_or_default();
        let library = match self.library.take() {
            Some(library) => library,
            None => tempfile::Builder::new().prefix("meshc-std-").tempdir()?,
        };
        let folder = self.library.insert(library).path();
        let path = folder.join(format!("{name}.kdl"));
        if !path.exists() {
            std::fs::write(&path, text)?;
            let mut permissions = std::fs::metadata(&path)?.permissions();
            permissions.set_readonly(true);
            std::fs::set_permissions(&path, permissions)?;
        }
        Ok(path)
    }
}

fn ready_at(due: Instant, takes: Duration) -> Instant {
    due + (takes / 8).clamp(PAUSE_MIN, PAUSE_MAX)
}

/// The folders that the client has open.
fn folders(params: &Value) -> Vec<PathBuf> {
    let listed = params.get("workspaceFolders").and_then(Value::as_array);
    let listed = listed
        .into_iter()
        .flatten()
        .filter_map(|folder| folder.get("uri"));
    let mut found: Vec<PathBuf> = listed
        .filter_map(Value::as_str)
        .filter_map(uri::to_path)
        .collect();
    if found.is_empty() {
        let root = params.get("rootUri").and_then(Value::as_str);
        found.extend(root.and_then(uri::to_path));
    }
    found
}

fn capabilities(encoding: Encoding) -> Value {
    json!({
        "positionEncoding": encoding.name(),
        "textDocumentSync": { "openClose": true, "change": 2, "save": { "includeText": false } },
        "hoverProvider": true,
        "completionProvider": { "triggerCharacters": ["=", " "] },
        "definitionProvider": true,
        "referencesProvider": true,
        "documentHighlightProvider": true,
        "documentSymbolProvider": true,
        "workspaceSymbolProvider": true,
        "foldingRangeProvider": true,
        "documentFormattingProvider": true,
        "renameProvider": { "prepareProvider": true },
        "codeActionProvider": { "codeActionKinds": ["quickfix", "source.fixAll"] },
        "workspace": { "workspaceFolders": { "supported": true, "changeNotifications": true } },
    })
}
