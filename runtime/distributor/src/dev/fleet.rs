//! All instances of a mesh: started for what policy declares, ended when it no longer does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde::Serialize;

use super::distributor::Distributor;
use super::instance::{Instance, Served, Surroundings, start_stand_in};
use super::plan::{Entry, Plan, PlannedInstance};
use super::ports::{GatewayPorts, ServicePorts};
use super::process::{Children, Process};
use super::secrets::Secrets;
use super::table::Serving;
use super::{App, DevError, Externals, make_folder};
use crate::endpoints::{EndpointFeed, EndpointSet, Label, ServiceAddress};

/// From enrolment to the first generation.
const SERVING_LIMIT: Duration = Duration::from_secs(30);

/// The programs that instances are made of.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) meshd: PathBuf,
    pub(super) meshp: PathBuf,
    /// What is started of them.
    pub(super) children: Children,
}

/// All running instances.
#[derive(Debug)]
pub(super) struct Fleet {
    /// By instance id.
    instances: BTreeMap<String, Instance>,
    folder: PathBuf,
    apps: Vec<App>,
    programs: Programs,
    secrets: Secrets,
    /// What answers in place of services outside the mesh, unless they do themselves.
    outside: Option<(Process, SocketAddr)>,
}

/// What the control socket says of a proxy.
#[derive(Debug, Serialize)]
pub(super) struct ProxyState {
    service: String,
    subset: Option<String>,
    instance: String,
    pid: u32,
    #[serde(flatten)]
    served: Served,
}

impl Fleet {
    /// Nothing yet but what answers in place of services outside the mesh, if something does.
    pub(super) async fn new(
        folder: PathBuf,
        apps: Vec<App>,
        programs: Programs,
        secrets: Secrets,
        externals: Externals,
    ) -> Result<Self, DevError> {
        let outside = match externals {
            Externals::StandIn => Some(start_stand_in(&folder, &programs).await?),
            Externals::Real => None,
        };
        Ok(Self {
            instances: BTreeMap::new(),
            outside,
            folder,
            apps,
            programs,
            secrets,
        })
    }

    /// Starts what the plan has and the fleet lacks, ends what it has no more, and tells the
    /// distributor where everything is.
    pub(super) async fn follow(
        &mut self,
        plan: &Plan,
        distributor: &Distributor,
    ) -> Result<(), DevError> {
        make_folder(&self.folder)?;
        let secrets = self.secrets.of(plan)?;
        let planned: BTreeMap<&str, (&String, &PlannedInstance)> = plan
            .services
            .iter()
            .flat_map(|(name, service)| {
                let instances = service.instances.iter();
                instances.map(move |instance| (instance.id.as_str(), (name, instance)))
            })
            .collect();
        for (id, instance) in &mut self.instances {
            let secrets = secrets.get(&instance.service).cloned();
            let listen = planned.get(id.as_str()).map(|(_, planned)| &planned.listen);
            instance.set(secrets.unwrap_or_default(), listen).await;
        }
        let gone: Vec<String> = self
            .instances
            .keys()
            .filter(|id| !planned.contains_key(id.as_str()))
            .cloned()
            .collect();
        let new = planned
            .values()
            .filter(|(_, instance)| !self.instances.contains_key(&instance.id))
            .filter_map(|(name, instance)| {
                let service = plan.services.get(*name)?;
                let surroundings = Surroundings {
                    programs: self.programs.clone(),
                    app: self.app(name, instance),
                    stand_in: self.outside.as_ref().map(|(_, address)| *address),
                    secrets: secrets.get(*name).cloned().unwrap_or_default(),
                };
                Some(Instance::start(
                    (*name).clone(),
                    service,
                    (*instance).clone(),
                    self.folder.join(&instance.id),
                    surroundings,
                    distributor,
                ))
            });
        let started = try_join_all(new).await?;
        for instance in started {
            self.instances.insert(instance.planned.id.clone(), instance);
        }
        let ended: Vec<Instance> = gone
            .iter()
            .filter_map(|id| self.instances.remove(id))
            .collect();
        distributor.put_endpoints(&self.endpoints()).await?;
        join_all(ended.into_iter().map(Instance::end)).await;
        Ok(())
    }

    fn app(&self, service: &str, instance: &PlannedInstance) -> Option<SocketAddr> {
        let of_service = || self.apps.iter().filter(|app| app.service == service);
        of_service()
            .find(|app| app.subset.is_some() && app.subset == instance.subset)
            .or_else(|| of_service().find(|app| app.subset.is_none()))
            .map(|app| app.address)
    }

    fn endpoints(&self) -> EndpointFeed {
        let set = |instance: &Instance| EndpointSet {
            service: instance.service.clone(),
            labels: instance
                .planned
                .labels
                .iter()
                .map(|label| Label {
                    key: label.key.clone(),
                    value: label.value.clone(),
                })
                .collect(),
            zone: String::new(),
            spiffe_id: None,
            addresses: instance
                .inbound()
                .iter()
                .map(|(port, address)| ServiceAddress {
                    port: *port,
                    address: *address,
                })
                .collect(),
        };
        EndpointFeed {
            sets: self
                .instances
                .values()
                .filter(|instance| !instance.is_gateway())
                .map(set)
                .collect(),
        }
    }

    /// Waits until every proxy serves a generation.
    pub(super) async fn wait_serving(&mut self, say: &impl Fn(&str)) -> Result<(), DevError> {
        say(&format!(
            "waiting for {} proxies to serve",
            self.instances.len()
        ));
        let waits = self
            .instances
            .values()
            .map(|instance| instance.wait_serving(SERVING_LIMIT));
        try_join_all(waits).await?;
        self.keep_listeners().await;
        Ok(())
    }

    /// Notes where listeners of gateways were opened.
    pub(super) async fn keep_listeners(&mut self) {
        let gateways = self
            .instances
            .values_mut()
            .filter(|instance| instance.is_gateway());
        for gateway in gateways {
            gateway.keep_listeners().await;
        }
    }

    /// Where an application of this service sends requests.
    pub(super) fn outbound(&self, service: &str) -> Option<SocketAddr> {
        let first = self
            .instances
            .values()
            .find(|instance| instance.service == service);
        first.map(Instance::outbound)
    }

    /// Where clients reach a listener of a gateway, and the certificate that it shows.
    pub(super) fn entrance(
        &self,
        gateway: &str,
        entry: &Entry,
    ) -> Option<(SocketAddr, Option<PathBuf>)> {
        let of_gateway = self
            .instances
            .values()
            .find(|instance| instance.service == gateway)?;
        let certificate = match &entry.certificate {
            None => None,
            Some(name) => Some(of_gateway.secret(name)?.to_path_buf()),
        };
        Some((of_gateway.listener(entry.port)?, certificate))
    }

    /// What each proxy serves, for the table.
    pub(super) async fn serving(&self) -> Vec<Serving> {
        let rows = self.instances.values().map(|instance| async {
            Serving {
                service: instance.service.clone(),
                is_gateway: instance.is_gateway(),
                subset: instance.planned.subset.clone(),
                instance: instance.planned.id.clone(),
                sequence: instance.served().await.sequence,
            }
        });
        join_all(rows).await
    }

    /// What each proxy serves, in full.
    pub(super) async fn states(&self) -> Vec<ProxyState> {
        let states = self.instances.values().map(|instance| async {
            ProxyState {
                service: instance.service.clone(),
                subset: instance.planned.subset.clone(),
                instance: instance.planned.id.clone(),
                pid: instance.pid(),
                served: instance.served().await,
            }
        });
        join_all(states).await
    }

    /// Gateways, for the ports file.
    pub(super) async fn gateway_ports(&self) -> BTreeMap<String, GatewayPorts> {
        let gateways = self
            .instances
            .values()
            .filter(|instance| instance.is_gateway());
        let ports = gateways.map(|instance| async {
            let ports = instance.gateway_ports().await;
            (instance.service.clone(), ports)
        });
        join_all(ports).await.into_iter().collect()
    }

    /// Services, for the ports file.
    pub(super) fn ports(&self) -> BTreeMap<String, ServicePorts> {
        let mut services: BTreeMap<String, ServicePorts> = BTreeMap::new();
        for instance in self.instances.values() {
            let Some(ports) = instance.ports() else {
                continue;
            };
            services
                .entry(instance.service.clone())
                .or_insert_with(|| ServicePorts {
                    first: ports.clone(),
                    instances: Vec::new(),
                })
                .instances
                .push(ports);
        }
        services
    }
}
