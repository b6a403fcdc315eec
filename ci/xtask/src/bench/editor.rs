//! From a change in an editor to its findings: `meshc lsp` with a client that types and waits.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mesh_tests::{Failure, program};
use serde::Serialize;
use serde_json::{Value, json};

use super::median;

/// Longest that findings are waited for.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// From `didChange` to `publishDiagnostics` of that version.
#[derive(Debug, Serialize)]
pub(super) struct Editor {
    services: usize,
    changes: usize,
    /// From the start of the program to the first findings.
    first_ms: f64,
    median_ms: f64,
    max_ms: f64,
    target_ms: f64,
}

impl Editor {
    /// As a line of the table.
    pub(super) fn line(&self) -> String {
        format!(
            "one file changed in an editor, {} services, {} changes: {:.0} ms, at most {:.0} (to be at most {:.0}); first findings after {:.0} ms",
            self.services, self.changes, self.median_ms, self.max_ms, self.target_ms, self.first_ms
        )
    }
}

/// Changes a fact in one document again and again, and waits for the findings of each version.
pub(super) fn measure(
    folder: &Path,
    path: &str,
    text: &str,
    services: usize,
    changes: usize,
) -> Result<Editor, Failure> {
    let folder = folder.canonicalize()?;
    let uri = |path: &Path| format!("file://{}", path.display());
    let document = uri(&folder.join(path));
    let start = Instant::now();
    let mut child = Command::new(program("meshc")?)
        .arg("lsp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::new("`meshc lsp` has no pipes"));
    };
    let (sender, received) = channel();
    let reader = std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        while let Some(message) = read(&mut output) {
            if sender.send((Instant::now(), message)).is_err() {
                break;
            }
        }
    });
    let mut times = Vec::new();
    let mut first_ms = 0.0;
    let mut measured = || -> Result<(), Failure> {
        let initialize = json!({ "rootUri": uri(&folder), "capabilities": {} });
        send(
            &mut input,
            &json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize }),
        )?;
        notify(&mut input, "initialized", &json!({}))?;
        let opened = json!({ "uri": document, "languageId": "kdl", "version": 1, "text": text });
        notify(
            &mut input,
            "textDocument/didOpen",
            &json!({ "textDocument": opened }),
        )?;
        first_ms = (published(&received, &document, 1)? - start).as_secs_f64() * 1000.0;
        for change in 0..changes {
            // As somebody types, and not always by the same distance from what the server does by itself.
            std::thread::sleep(Duration::from_millis(200 + 37 * change as u64));
            let edited =
                text.replacen("handling=\"5ms", &format!("handling=\"{}ms", change + 6), 1);
            let version = change + 2;
            let params = json!({
                "textDocument": { "uri": document, "version": version },
                "contentChanges": [{ "text": edited }],
            });
            let start = Instant::now();
            notify(&mut input, "textDocument/didChange", &params)?;
            times.push((published(&received, &document, version)? - start).as_secs_f64() * 1000.0);
        }
        Ok(())
    };
    let done = measured();
    child.kill()?;
    child.wait()?;
    drop(received);
    drop(reader.join());
    done?;
    Ok(Editor {
        services,
        changes,
        first_ms,
        max_ms: times.iter().copied().fold(0.0, f64::max),
        median_ms: median(times),
        target_ms: 100.0,
    })
}

/// When the findings of a version of a document came.
fn published(
    received: &Receiver<(Instant, Value)>,
    document: &str,
    version: usize,
) -> Result<Instant, Failure> {
    loop {
        let (at, message) = received.recv_timeout(ANSWER_MAX)?;
        let params = &message["params"];
        if message["method"] == "textDocument/publishDiagnostics"
            && params["uri"] == document
            && params["version"] == version
        {
            return Ok(at);
        }
    }
}

fn notify(input: &mut ChildStdin, method: &str, params: &Value) -> Result<(), Failure> {
    send(
        input,
        &json!({ "jsonrpc": "2.0", "method": method, "params": params }),
    )
}

fn send(input: &mut ChildStdin, message: &Value) -> Result<(), Failure> {
    let text = message.to_string();
    write!(input, "Content-Length: {}\r\n\r\n{text}", text.len())?;
    Ok(input.flush()?)
}

fn read(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().split_once(':') {
            Some((_, value)) => length = value.trim().parse().ok()?,
            None => break,
        }
    }
    let mut body = vec![0; length];
    output.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
