//! The Unix socket: the only place where anything about a running distributor can be changed. Who
//! may connect is decided by the socket's mode and the peer's uid.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::admin::{AdminRequest, AdminResponse, Routes};
use serde::{Deserialize, Serialize};

use crate::endpoints::EndpointFeed;
use crate::limits;
use crate::mesh::{JoinError, Mesh};
use crate::output::chain;
use crate::publish::revocations::ChangeError;
use crate::revoke::{Asked, RevokeError};
use crate::rotation;

/// Body of `POST /join-tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// Whom the proxy will be.
    pub(crate) identity: String,
    /// How long the token is valid; 10 minutes if not given.
    #[serde(default)]
    pub(crate) ttl_s: Option<u64>,
    /// Refuses an identity that the policies that are served don't have. Nobody could enrol by its token yet.
    #[serde(default)]
    pub(crate) known_only: bool,
}

/// Body of `POST /renewals`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewalRequest {
    /// Over how long the proxies spread.
    pub(crate) within_s: u32,
}

/// Answer of a refused request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) error: String,
}

/// Answer of `PUT /endpoints`.
#[derive(Clone, Debug, Serialize)]
struct EndpointsAnswer {
    version: u64,
}

/// The routes of the socket.
pub(crate) fn routes(mesh: &Arc<Mesh>) -> Routes {
    let with = |handler: fn(&Arc<Mesh>, &AdminRequest) -> AdminResponse| {
        let mesh = Arc::clone(mesh);
        move |request: AdminRequest| {
            let mesh = Arc::clone(&mesh);
            // Most of these wait for the disk.
            let answer = tokio::task::spawn_blocking(move || handler(&mesh, &request));
            async move {
                answer.await.unwrap_or_else(|_ended| {
                    refused(StatusCode::SERVICE_UNAVAILABLE, "the distributor is ending")
                })
            }
        }
    };
    let ready = Arc::clone(mesh);
    Routes::new()
        .at(
            Method::GET,
            "/status",
            with(|mesh, _request| AdminResponse::json(&mesh.status())),
        )
        .below(
            Method::GET,
            "/where/",
            with(|mesh, request| AdminResponse::json(&mesh.whereabouts(&request.tail))),
        )
        .at(Method::POST, "/trigger", with(trigger))
        .at(Method::POST, "/join-tokens", with(join_token))
        .at(
            Method::GET,
            "/revocations",
            with(|mesh, _request| AdminResponse::json(&mesh.publisher.revocations())),
        )
        .at(Method::POST, "/revocations", with(revoke))
        .at(Method::DELETE, "/revocations", with(take_back))
        .at(
            Method::GET,
            "/rotation",
            with(|mesh, _request| AdminResponse::json(&rotation::report(mesh))),
        )
        .at(Method::POST, "/renewals", with(renewals))
        .at(Method::PUT, "/endpoints", with(endpoints))
        .ready(move || ready.ready())
}

fn trigger(mesh: &Arc<Mesh>, _request: &AdminRequest) -> AdminResponse {
    mesh.trigger.pull();
    AdminResponse::text(StatusCode::ACCEPTED, "looking\n")
}

fn join_token(mesh: &Arc<Mesh>, request: &AdminRequest) -> AdminResponse {
    let asked: TokenRequest = match serde_json::from_slice(&request.body) {
        Ok(asked) => asked,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let identity = match SpiffeId::parse(&asked.identity) {
        Ok(identity) => identity,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &chain(&error)),
    };
    if asked.known_only && !mesh.may_have(&identity) {
        let why = format!(
            "the policies that are served have no workload {identity}; commit it first, or say --early"
        );
        return refused(StatusCode::CONFLICT, &why);
    }
    let life = asked
        .ttl_s
        .map_or(limits::JOIN_TOKEN_LIFE_MAX, Duration::from_secs);
    match mesh.join_file(&identity, life) {
        Ok(join_file) => AdminResponse {
            status: StatusCode::CREATED,
            content_type: "application/json",
            body: join_file.to_json().into(),
        },
        Err(JoinError::Starting) => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            &JoinError::Starting.to_string(),
        ),
        Err(error) => refused(StatusCode::CONFLICT, &chain(&error)),
    }
}

fn renewals(mesh: &Arc<Mesh>, request: &AdminRequest) -> AdminResponse {
    let asked: RenewalRequest = match serde_json::from_slice(&request.body) {
        Ok(asked) => asked,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    mesh.publisher.ask_renewals(asked.within_s);
    AdminResponse::text(StatusCode::ACCEPTED, "asked\n")
}

fn revoke(mesh: &Arc<Mesh>, request: &AdminRequest) -> AdminResponse {
    let asked: Asked = match serde_json::from_slice(&request.body) {
        Ok(asked) => asked,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match mesh.publisher.revoke(&asked) {
        Ok(made) => AdminResponse::json_with(StatusCode::CREATED, &made),
        Err(error) => not_changed(&error),
    }
}

fn take_back(mesh: &Arc<Mesh>, request: &AdminRequest) -> AdminResponse {
    let asked: Asked = match serde_json::from_slice(&request.body) {
        Ok(asked) => asked,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match mesh.publisher.take_back(&asked) {
        Ok(()) => AdminResponse::text(StatusCode::OK, ""),
        Err(error) => not_changed(&error),
    }
}

fn not_changed(error: &ChangeError) -> AdminResponse {
    let status = match error {
        ChangeError::Asked(RevokeError::Own | RevokeError::Unknown) => StatusCode::CONFLICT,
        ChangeError::Asked(_) => StatusCode::BAD_REQUEST,
        ChangeError::Publish(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refused(status, &chain(error))
}

fn endpoints(mesh: &Arc<Mesh>, request: &AdminRequest) -> AdminResponse {
    if !mesh.pinned.development {
        return refused(
            StatusCode::FORBIDDEN,
            "endpoints are fed by hand only under a development trust root",
        );
    }
    let feed: EndpointFeed = match serde_json::from_slice(&request.body) {
        Ok(feed) => feed,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if let Err(error) = feed.check() {
        return refused(StatusCode::BAD_REQUEST, &error.to_string());
    }
    match mesh.set_endpoints(feed) {
        Ok(version) => AdminResponse::json(&EndpointsAnswer { version }),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &chain(&error)),
    }
}

fn refused(status: StatusCode, error: &str) -> AdminResponse {
    AdminResponse::json_with(
        status,
        &Refusal {
            error: error.to_owned(),
        },
    )
}
