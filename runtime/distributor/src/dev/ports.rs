//! The file that tells what `meshd dev` opened; a contract with scripts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

/// The whole file.
#[derive(Debug, Serialize)]
pub(super) struct Ports {
    pub(super) web: String,
    pub(super) services: BTreeMap<String, ServicePorts>,
    /// By gateway; a mesh without gateways has none.
    pub(super) gateways: BTreeMap<String, GatewayPorts>,
    pub(super) repository: PathBuf,
    pub(super) distributor: DistributorPorts,
    pub(super) control: PathBuf,
}

/// One service: the fields of its first instance, then all instances.
#[derive(Debug, Serialize)]
pub(super) struct ServicePorts {
    #[serde(flatten)]
    pub(super) first: InstancePorts,
    pub(super) instances: Vec<InstancePorts>,
}

/// One instance.
#[derive(Clone, Debug, Serialize)]
pub(super) struct InstancePorts {
    pub(super) subset: Option<String>,
    pub(super) instance: String,
    pub(super) outbound: SocketAddr,
    pub(super) inbound: SocketAddr,
    /// By port of the service.
    pub(super) inbound_ports: BTreeMap<u16, SocketAddr>,
    pub(super) application: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) admin: PathBuf,
    pub(super) pid: u32,
}

/// One gateway.
#[derive(Debug, Serialize)]
pub(super) struct GatewayPorts {
    /// By declared port.
    pub(super) listeners: BTreeMap<u16, SocketAddr>,
    pub(super) metrics: SocketAddr,
    pub(super) admin: PathBuf,
    pub(super) pid: u32,
}

/// The distributor.
#[derive(Debug, Serialize)]
pub(super) struct DistributorPorts {
    pub(super) pid: u32,
    pub(super) socket: PathBuf,
    pub(super) address: SocketAddr,
}
