//! All instances of a mesh: started for what policy declares, ended when it no longer does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde::Serialize;

use super::distributor::Distributor;
use super::instance::{Instance, Served};
use super::plan::{Plan, PlannedInstance};
use super::ports::ServicePorts;
use super::table::Serving;
use super::{App, DevError, make_folder};
use crate::endpoints::{EndpointFeed, EndpointSet, Label, ServiceAddress};

/// From enrolment to the first generation.
const SERVING_LIMIT: Duration = Duration::from_secs(30);

/// The programs that instances are made of.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) meshd: PathBuf,
    pub(super) meshp: PathBuf,
}

/// All running instances.
#[derive(Debug)]
pub(super) struct Fleet {
    /// By instance id.
    instances: BTreeMap<String, Instance>,
    folder: PathBuf,
    apps: Vec<App>,
    programs: Programs,
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
    pub(super) fn new(folder: PathBuf, apps: Vec<App>, programs: Programs) -> Self {
        Self {
            instances: BTreeMap::new(),
            folder,
            apps,
            programs,
        }
    }

    /// Starts what the plan has and the fleet lacks, ends what it has no more, and tells the
    /// distributor where everything is.
    pub(super) async fn follow(
        &mut self,
        plan: &Plan,
        distributor: &Distributor,
    ) -> Result<(), DevError> {
        make_folder(&self.folder)?;
        let planned: BTreeMap<&str, (&String, &PlannedInstance)> = plan
            .services
            .iter()
            .flat_map(|(name, service)| {
                let instances = service.instances.iter();
                instances.map(move |instance| (instance.id.as_str(), (name, instance)))
            })
            .collect();
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
                Some(Instance::start(
                    (*name).clone(),
                    service,
                    (*instance).clone(),
                    self.app(name, instance),
                    self.folder.join(&instance.id),
                    &self.programs,
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
            sets: self.instances.values().map(set).collect(),
        }
    }

    /// Waits until every proxy serves a generation.
    pub(super) async fn wait_serving(&self, say: &impl Fn(&str)) -> Result<(), DevError> {
        say(&format!(
            "waiting for {} proxies to serve",
            self.instances.len()
        ));
        let waits = self
            .instances
            .values()
            .map(|instance| instance.wait_serving(SERVING_LIMIT));
        try_join_all(waits).await.map(drop)
    }

    /// Where an application of this service sends requests.
    pub(super) fn outbound(&self, service: &str) -> Option<SocketAddr> {
        let first = self
            .instances
            .values()
            .find(|instance| instance.service == service);
        first.map(Instance::outbound)
    }

    /// What each proxy serves, for the table.
    pub(super) async fn serving(&self) -> Vec<Serving> {
        let rows = self.instances.values().map(|instance| async {
            Serving {
                service: instance.service.clone(),
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

    /// For the ports file.
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
