//! A small editor: it talks to the real program over its pipes.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Fixture;

/// A test fails when nothing came for so long; it never waits for it otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// An editor with a server.
pub(super) struct Client {
    server: Child,
    input: Option<ChildStdin>,
    received: Receiver<Value>,
    /// What came while something else was waited for.
    kept: Vec<Value>,
    asked: u64,
}

impl Client {
    /// Starts a server that knows nothing yet.
    pub(super) fn start(fixture: &Fixture) -> Self {
        let mut server = Command::new(env!("CARGO_BIN_EXE_meshc"))
            .args(["lsp", "--stdio"])
            .current_dir(fixture.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        let (sender, received) = channel();
        thread::spawn(move || {
            while let Some(message) = read(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            input: server.stdin.take(),
            server,
            received,
            kept: Vec::new(),
            asked: 0,
        }
    }

    /// Starts a server for a folder, with what the client can do.
    pub(super) fn open(fixture: &Fixture, folder: &str, capabilities: &Value) -> Self {
        let mut client = Self::start(fixture);
        let params = json!({
            "processId": null,
            "rootUri": uri(fixture, folder),
            "capabilities": capabilities,
        });
        client.request("initialize", &params).unwrap();
        client.notify("initialized", &json!({}));
        client
    }

    /// Sends bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        // A server that has ended is found out by how it ended.
        drop(input.write_all(bytes).and_then(|()| input.flush()));
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        self.raw(format!("Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes());
    }

    pub(super) fn notify(&mut self, method: &str, params: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// The result of a request, or code and message of its error.
    pub(super) fn request(&mut self, method: &str, params: &Value) -> Result<Value, (i64, String)> {
        self.asked += 1;
        let id = json!(self.asked);
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        self.answer(&id)
    }

    /// The answer to a request that was sent.
    pub(super) fn answer(&mut self, id: &Value) -> Result<Value, (i64, String)> {
        let answer = self.wait(|message| message.get("method").is_none() && message["id"] == *id);
        match answer.get("error") {
            Some(error) => Err((
                error["code"].as_i64().unwrap(),
                error["message"].as_str().unwrap().to_owned(),
            )),
            None => Ok(answer["result"].clone()),
        }
    }

    /// The next message of a kind, now or among those that came already.
    pub(super) fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.kept.iter().position(&wanted) {
            return self.kept.remove(index);
        }
        loop {
            let message = self.received.recv_timeout(PATIENCE).unwrap();
            if wanted(&message) {
                return message;
            }
            self.kept.push(message);
        }
    }

    /// Opens a document.
    pub(super) fn did_open(&mut self, uri: &str, text: &str) {
        let document = json!({ "uri": uri, "languageId": "kdl", "version": 1, "text": text });
        self.notify("textDocument/didOpen", &json!({ "textDocument": document }));
    }

    /// Changes a document whole.
    pub(super) fn did_change(&mut self, uri: &str, version: i32, text: &str) {
        self.edit(uri, version, &json!([{ "text": text }]));
    }

    /// Changes parts of a document.
    pub(super) fn edit(&mut self, uri: &str, version: i32, changes: &Value) {
        let document = json!({ "uri": uri, "version": version });
        let params = json!({ "textDocument": document, "contentChanges": changes });
        self.notify("textDocument/didChange", &params);
    }

    /// What is shown for a version of a document; for one that is not open, whatever comes next.
    pub(super) fn diagnostics(&mut self, uri: &str, version: Option<i32>) -> Vec<Value> {
        let published = self.wait(|message| {
            message["method"] == "textDocument/publishDiagnostics"
                && message["params"]["uri"] == uri
                && message["params"].get("version").and_then(Value::as_i64)
                    == version.map(i64::from)
        });
        let diagnostics = published["params"]["diagnostics"].as_array();
        diagnostics.unwrap().clone()
    }

    /// How the server ended, and what it said on the way.
    pub(super) fn ended(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let mut said = String::new();
        let mut stderr = self.server.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        (self.server.wait().unwrap().code(), said)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn read(output: &mut impl std::io::BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().split_once(':') {
            Some((_, value)) => length = value.trim().parse().unwrap(),
            None => break,
        }
    }
    let mut body = vec![0; length];
    output.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

/// The URI of a file of the fixture. Its name has nothing that would have to be written otherwise.
pub(super) fn uri(fixture: &Fixture, path: &str) -> String {
    let top = fs::canonicalize(fixture.path(".")).unwrap();
    let path: PathBuf = top.join(path);
    format!("file://{}", path.to_str().unwrap())
}

/// Where a part of a text begins, in lines and characters.
pub(super) fn position(text: &str, part: &str, after: usize) -> Value {
    let offset = text.find(part).unwrap() + after;
    let before = text.get(..offset).unwrap();
    let line = before.matches('\n').count();
    let character = before.rsplit('\n').next().unwrap().encode_utf16().count();
    json!({ "line": line, "character": character })
}
