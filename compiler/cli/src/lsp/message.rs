//! JSON-RPC messages in the frames of the Language Server Protocol.
//!
//! The `lsp-server` crate would read them, but allocates whatever length a frame claims to have, reads header lines
//! of any length, and stops at the first text that is not JSON.

use std::io::{self, BufRead, Read as _, Write};

use serde_json::{Value, json};

/// Largest message. A whole policy file, the most that an editor sends at once, is a sixteenth of it.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Longest header line, and most of them.
const HEADER_BYTES_MAX: usize = 1024;
const HEADERS_MAX: usize = 16;

/// What a client may be told with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    ParseError = -32700,
    InvalidRequest = -32600,
    MethodNotFound = -32601,
    InvalidParams = -32602,
    InternalError = -32603,
    NotInitialized = -32002,
    Cancelled = -32800,
    RequestFailed = -32803,
}

/// Why a request has no result.
#[derive(Clone, Debug)]
pub(super) struct RpcError {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl RpcError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// What a client sends.
#[derive(Clone, Debug)]
pub(super) enum Incoming {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    /// The answer to a question of the server.
    Response,
    /// Something else, and what to answer.
    Malformed {
        id: Value,
        error: RpcError,
    },
}

/// Why nothing more can be read: where the next message begins is unknown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the client's input could not be read")]
    Io(#[from] io::Error),
    #[error(
        "this is not the Language Server Protocol: a header line without a colon or longer than {HEADER_BYTES_MAX} bytes; `meshc lsp` is started by an editor"
    )]
    Header,
    #[error("the client sent a message without a usable Content-Length")]
    NoLength,
    #[error("the client announced a message of {0} bytes; {MESSAGE_BYTES_MAX} is the most")]
    TooLong(usize),
}

/// Reads one message; none: the client closed its end.
pub(super) fn read(input: &mut impl BufRead) -> Result<Option<Incoming>, ReadError> {
    let Some(length) = read_headers(input)? else {
        return Ok(None);
    };
    let mut body = Vec::new();
    // No more is set aside than really comes.
    let read = input.take(length as u64).read_to_end(&mut body)?;
    if read < length {
        return Ok(None);
    }
    Ok(Some(parse(&body)))
}

fn read_headers(input: &mut impl BufRead) -> Result<Option<usize>, ReadError> {
    let mut length = None;
    for count in 0..=HEADERS_MAX {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(HEADER_BYTES_MAX as u64)
            .read_until(b'\n', &mut line)?;
        if read == 0 && count == 0 {
            return Ok(None);
        }
        if !line.ends_with(b"\n") {
            return Err(ReadError::Header);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            let length: usize = length.ok_or(ReadError::NoLength)?;
            return if length > MESSAGE_BYTES_MAX {
                Err(ReadError::TooLong(length))
            } else {
                Ok(Some(length))
            };
        }
        let (name, value) = line.split_once(':').ok_or(ReadError::Header)?;
        if name.trim().eq_ignore_ascii_case("Content-Length") {
            let value = value.trim().parse();
            length = Some(value.map_err(|_error| ReadError::NoLength)?);
        }
    }
    Err(ReadError::Header)
}

fn parse(body: &[u8]) -> Incoming {
    let malformed = |id: Value, code, message: &str| Incoming::Malformed {
        id,
        error: RpcError::new(code, message),
    };
    let mut message = match serde_json::from_slice(body) {
        Ok(Value::Object(message)) => message,
        Ok(_) => {
            let text = "a message is an object; batches are not part of the protocol";
            return malformed(Value::Null, ErrorCode::InvalidRequest, text);
        }
        Err(error) => {
            let text = format!("this is not JSON: {error}");
            return malformed(Value::Null, ErrorCode::ParseError, &text);
        }
    };
    let id = message.remove("id");
    let params = message.remove("params").unwrap_or(Value::Null);
    let usable = |id: &Value| id.is_string() || id.is_i64() || id.is_u64();
    match (message.remove("method"), id) {
        (Some(Value::String(method)), None) => Incoming::Notification { method, params },
        (Some(Value::String(method)), Some(id)) if usable(&id) => {
            Incoming::Request { id, method, params }
        }
        (None, Some(_)) if message.contains_key("result") || message.contains_key("error") => {
            Incoming::Response
        }
        (_, id) => {
            let id = id.filter(usable).unwrap_or(Value::Null);
            let text = "a message has a `method`, and a request an `id` that is a number or a text";
            malformed(id, ErrorCode::InvalidRequest, text)
        }
    }
}

/// Writes a message in its frame.
pub(super) fn write(output: &mut impl Write, message: &Value) -> io::Result<()> {
    let text = message.to_string();
    write!(output, "Content-Length: {}\r\n\r\n{text}", text.len())?;
    output.flush()
}

/// The answer to a request.
pub(super) fn response(id: &Value, result: Result<Value, RpcError>) -> Value {
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(RpcError { code, message }) => json!({
            "jsonrpc": "2.0",
            "id": id,
            "error": { "code": code as i32, "message": message },
        }),
    }
}

/// Something that a client is told.
pub(super) fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// Something that a client is asked.
pub(super) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Option<Incoming>, ReadError> {
        read(&mut text.as_bytes())
    }

    fn framed(body: &str) -> String {
        format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn messages_are_told_apart() {
        let read = |body: &str| read_text(&framed(body)).unwrap().unwrap();
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{}}"#),
            Incoming::Request { .. }
        ));
        assert!(matches!(
            read(r#"{"method":"x"}"#),
            Incoming::Notification { .. }
        ));
        assert!(matches!(
            read(r#"{"id":7,"result":null}"#),
            Incoming::Response
        ));
    }

    #[test]
    fn what_is_no_message_says_so() {
        for (body, code) in [
            ("{", ErrorCode::ParseError),
            ("", ErrorCode::ParseError),
            ("[]", ErrorCode::InvalidRequest),
            ("{}", ErrorCode::InvalidRequest),
            (r#"{"id":{},"method":"x"}"#, ErrorCode::InvalidRequest),
            (r#"{"id":1,"method":2}"#, ErrorCode::InvalidRequest),
        ] {
            let Some(Incoming::Malformed { error, .. }) = read_text(&framed(body)).unwrap() else {
                panic!("{body}");
            };
            assert_eq!(error.code, code, "{body}");
        }
        let deep = "[".repeat(10_000);
        assert!(matches!(
            read_text(&framed(&deep)),
            Ok(Some(Incoming::Malformed { .. }))
        ));
    }

    #[test]
    fn frames_are_bounded() {
        assert!(matches!(read_text(""), Ok(None)));
        assert!(matches!(read_text("Content-Length: 5\r\n\r\n{}"), Ok(None)));
        assert!(matches!(read_text("hello\r\n"), Err(ReadError::Header)));
        assert!(matches!(
            read_text(&"x".repeat(5000)),
            Err(ReadError::Header)
        ));
        assert!(matches!(
            read_text(&"a: b\r\n".repeat(50)),
            Err(ReadError::Header)
        ));
        assert!(matches!(
            read_text("a: b\r\n\r\n"),
            Err(ReadError::NoLength)
        ));
        for length in ["-1", "x", "99999999999999999999999"] {
            let text = format!("Content-Length: {length}\r\n\r\n");
            assert!(
                matches!(read_text(&text), Err(ReadError::NoLength)),
                "{length}"
            );
        }
        let text = "Content-Length: 99999999999\r\n\r\n";
        assert!(matches!(read_text(text), Err(ReadError::TooLong(_))));
    }
}
