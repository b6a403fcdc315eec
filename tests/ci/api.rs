//! The comments of a pull request, as the services keep them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_tests::Failure;
use serde_json::{Value, json};

/// One request to it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and target.
    pub(crate) what: String,
    /// Head, as sent.
    pub(crate) head: String,
}

/// What it knows.
#[derive(Debug, Default)]
struct Known {
    asked: Vec<Asked>,
    comments: Vec<Value>,
    next: u64,
    refuses: bool,
}

/// A server on this machine; its thread ends with the process.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

impl Api {
    /// With so many comments of others.
    pub(crate) fn start(others: u64) -> Result<Self, Failure> {
        let comments = (1..=others).map(|id| json!({ "id": id, "body": format!("comment {id}") }));
        let known = Known {
            comments: comments.collect(),
            next: others + 1,
            ..Known::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let api = Self {
            address: listener.local_addr()?,
            known: Arc::new(Mutex::new(known)),
        };
        let serving = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is no concern of the next.
                drop(serving.answer(&stream));
            }
        });
        Ok(api)
    }

    /// Refuses from now on.
    pub(crate) fn refuse(&self) {
        self.lock().refuses = true;
    }

    /// Requests since the last question.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    /// Bodies of the comments that are not of others.
    pub(crate) fn own(&self) -> Vec<String> {
        let known = self.lock();
        let bodies = known
            .comments
            .iter()
            .filter_map(|comment| comment["body"].as_str());
        bodies
            .filter(|body| !body.starts_with("comment "))
            .map(str::to_owned)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, stream: &TcpStream) -> Result<(), Failure> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let line = head.lines().next().unwrap_or_default().to_owned();
        let mut words = line.split(' ');
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let (status, answer) = self.change(method, target, &body);
        self.lock().asked.push(Asked {
            what: format!("{method} {target}"),
            head: head.clone(),
        });
        let text = answer.to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} it is so\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        )?;
        Ok(())
    }

    fn change(&self, method: &str, target: &str, body: &[u8]) -> (u16, Value) {
        let mut known = self.lock();
        if known.refuses {
            return (
                403,
                json!({ "message": "Resource not accessible by integration" }),
            );
        }
        let text = serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|value| Some(value["body"].as_str()?.to_owned()));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let id = path
            .rsplit('/')
            .next()
            .and_then(|id| id.parse::<u64>().ok());
        match (method, id, text) {
            ("GET", None, _) => {
                let field = |name: &str| {
                    let found = query.split('&').find_map(|pair| pair.strip_prefix(name));
                    found.and_then(|value| value.parse::<usize>().ok())
                };
                let (size, page) = (
                    field("per_page=").unwrap_or(30),
                    field("page=").unwrap_or(1),
                );
                let from = size * (page - 1);
                (
                    200,
                    known
                        .comments
                        .iter()
                        .skip(from)
                        .take(size)
                        .cloned()
                        .collect(),
                )
            }
            ("POST", None, Some(text)) => {
                let comment = json!({ "id": known.next, "body": text });
                known.next += 1;
                known.comments.push(comment.clone());
                (201, comment)
            }
            ("PATCH" | "PUT", Some(id), Some(text)) => {
                for comment in known.comments.iter_mut().filter(|it| it["id"] == id) {
                    comment["body"] = json!(text);
                }
                (200, json!({}))
            }
            ("DELETE", Some(id), _) => {
                known.comments.retain(|comment| comment["id"] != id);
                (204, json!(null))
            }
            _ => (404, json!({ "message": "Not Found" })),
        }
    }
}
