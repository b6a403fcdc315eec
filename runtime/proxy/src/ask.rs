//! `meshp admin`: asks a running proxy over its admin socket, and writes the answer for people or for programs. It knows
//! the answers' fields and nothing of how they come about.

pub(crate) mod args;
mod human;
mod table;

use std::io::{self, Write as _};
use std::path::Path;

use bytes::Bytes;
use http::{Method, StatusCode};
use mesh_daemon::admin::client::{self, AdminClientError};
use serde_json::{Value, json};
use thiserror::Error;

use self::args::{AdminArguments, AdminCommand, Format};
use self::human::{connections, discovered, endpoints, list, pools, routes, status};
use crate::exit_code::Exit;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum AskError {
    /// Nobody answered.
    #[error("ask the proxy at {0}")]
    Client(String, #[source] AdminClientError),
    /// It refused.
    #[error("the proxy answered {0}: {1}")]
    Refused(StatusCode, String),
    /// It is not what this release understands.
    #[error("understand the answer of the proxy")]
    Answer(#[from] serde_json::Error),
    /// The terminal, or file, is gone.
    #[error("write the answer")]
    Write(#[from] io::Error),
}

/// Asks, and writes the answer to standard output.
pub(crate) fn run(arguments: &AdminArguments) -> Result<Exit, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (text, exit) = runtime.block_on(answer(arguments))?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(exit)
}

async fn answer(arguments: &AdminArguments) -> Result<(String, Exit), AskError> {
    let socket = Socket(&arguments.socket);
    let is_json = arguments.format == Format::Json;
    let shown = |value: &Value, human: fn(&Value) -> String| {
        if is_json {
            serde_json::to_string_pretty(value)
        } else {
            Ok(human(value))
        }
    };
    let said = |key: &str, text: String| {
        let text = text.trim().to_owned();
        if is_json {
            json!({ key: text }).to_string()
        } else {
            text
        }
    };
    let text = match &arguments.command {
        AdminCommand::Status => shown(&socket.json("/config").await?, status)?,
        AdminCommand::Ready => {
            let (code, text) = socket.ask(Method::GET, "/ready", "").await?;
            let exit = match code {
                StatusCode::OK => Exit::Ended,
                _ => Exit::NotReady,
            };
            return Ok((said("ready", text), exit));
        }
        AdminCommand::Slice { callee } => {
            let query = callee.as_ref().map(|callee| format!("?callee={callee}"));
            let path = format!("/slice{}", query.unwrap_or_default());
            said("slice", socket.text(Method::GET, &path, "").await?)
        }
        AdminCommand::Routes { service, limit } => {
            let mut page = json!({ "services": [] });
            let mut after: Option<String> = None;
            let mut left = *limit;
            while left > 0 {
                let mut path = format!("/routes?limit={left}");
                if let Some(service) = service {
                    path.push_str("&service=");
                    path.push_str(service);
                }
                if let Some(after) = &after {
                    path.push_str("&after=");
                    path.push_str(after);
                }
                let next = socket.json(&path).await?;
                let services = list(&next, "services");
                let rows = services.iter().map(|of| list(of, "routes").len());
                left = left.saturating_sub(rows.sum::<usize>().max(1));
                extend(&mut page, "services", services);
                after = next["next"].as_str().map(str::to_owned);
                if after.is_none() {
                    break;
                }
            }
            page["next"] = json!(after);
            shown(&page, routes)?
        }
        AdminCommand::Endpoints { service, limit } => {
            let page = socket.pools(service.as_deref(), *limit).await?;
            shown(&page, endpoints)?
        }
        AdminCommand::Pools { service, limit } => {
            let page = socket.pools(service.as_deref(), *limit).await?;
            shown(&page, pools)?
        }
        AdminCommand::Discovered => shown(&socket.json("/endpoints").await?, discovered)?,
        AdminCommand::Connections { limit } => {
            let mut page = json!({ "connections": [] });
            let mut after = Some(0);
            while let Some(from) = after {
                let left = limit.saturating_sub(list(&page, "connections").len());
                if left == 0 {
                    break;
                }
                let path = format!("/connections?limit={left}&after={from}");
                let next = socket.json(&path).await?;
                extend(&mut page, "connections", list(&next, "connections"));
                page["total"] = next["total"].clone();
                after = next["next"].as_u64();
            }
            shown(&page, connections)?
        }
        AdminCommand::LogLevel { filter } => {
            let (method, body) = match filter {
                Some(filter) => (Method::POST, filter.as_str()),
                None => (Method::GET, ""),
            };
            said("filter", socket.text(method, "/log-level", body).await?)
        }
        AdminCommand::Drain => said("drain", socket.text(Method::POST, "/drain", "").await?),
    };
    Ok((text, Exit::Ended))
}

/// Where the proxy is asked.
struct Socket<'a>(&'a Path);

impl Socket<'_> {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<(StatusCode, String), AskError> {
        let body = Bytes::from(body.to_owned());
        let (code, body) = client::request(self.0, method, path, body)
            .await
            .map_err(|error| AskError::Client(self.0.display().to_string(), error))?;
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn text(&self, method: Method, path: &str, body: &str) -> Result<String, AskError> {
        let (code, text) = self.ask(method, path, body).await?;
        if code.is_success() {
            return Ok(text);
        }
        Err(AskError::Refused(code, text.trim().to_owned()))
    }

    /// Pages of `GET /pools` in one.
    async fn pools(&self, service: Option<&str>, limit: usize) -> Result<Value, AskError> {
        let mut page = json!({ "pools": [], "rate_limits": [], "next": null });
        let mut left = limit;
        while left > 0 {
            let mut path = format!("/pools?limit={left}");
            if let Some(service) = service {
                path.push_str("&service=");
                path.push_str(service);
            }
            if let Some(after) = page["next"].as_str() {
                path.push_str("&after=");
                path.push_str(after);
            }
            let next = self.json(&path).await?;
            let rows = list(&next, "pools").iter();
            let rows: usize = rows.map(|pool| list(pool, "endpoints").len().max(1)).sum();
            left = left.saturating_sub(rows.max(1));
            extend(&mut page, "pools", list(&next, "pools"));
            extend(&mut page, "rate_limits", list(&next, "rate_limits"));
            page["next"] = next["next"].clone();
            if page["next"].is_null() {
                break;
            }
        }
        Ok(page)
    }

    async fn json(&self, path: &str) -> Result<Value, AskError> {
        Ok(serde_json::from_str(
            &self.text(Method::GET, path, "").await?,
        )?)
    }
}

fn extend(page: &mut Value, key: &str, more: &[Value]) {
    if let Some(rows) = page[key].as_array_mut() {
        rows.extend_from_slice(more);
    }
}
