//! What several cases need: a running bookshop, and questions to its proxies.

use std::time::Duration;

use mesh_tests::{
    Dev, DevOptions, Failure, PolicyRepository, ProxyConfig, Response, http_get, workspace_root,
};

/// How long a condition may take to come true before the case has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The bookshop on this machine, with its folder.
pub(crate) struct Bookshop {
    pub(crate) dev: Dev,
    // Last: the processes end before their folder goes.
    _folder: tempfile::TempDir,
}

/// Starts the bookshop; the demo traffic only where a case asks for it.
pub(crate) fn bookshop(rate: u32) -> Result<Bookshop, Failure> {
    let folder = tempfile::Builder::new().prefix("mesh-e2e-").tempdir()?;
    let policies = workspace_root().join("policies/examples/bookshop");
    let repository = PolicyRepository::create(folder.path(), &policies)?;
    let options = DevOptions {
        arguments: vec!["--rate".to_owned(), rate.to_string()],
    };
    let dev = Dev::start(repository.path(), folder.path(), &options)?;
    Ok(Bookshop {
        dev,
        _folder: folder,
    })
}

impl Bookshop {
    /// A GET as the application of `from` would send it.
    pub(crate) fn get(
        &self,
        from: &str,
        to: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, Failure> {
        http_get(self.dev.instance(from)?.outbound, to, path, headers)
    }

    /// What the first proxy of a service says it serves.
    pub(crate) fn served(&self, service: &str) -> Result<ProxyConfig, Failure> {
        let proxies = self.dev.proxies()?;
        proxies
            .into_iter()
            .find(|proxy| proxy.service == service)
            .ok_or_else(|| Failure::new(format!("no proxy of {service}")))
    }

    /// All metrics of the first proxy of a service.
    pub(crate) fn metrics(&self, service: &str) -> Result<String, Failure> {
        let instance = self.dev.instance(service)?;
        Ok(http_get(instance.metrics, "localhost", "/metrics", &[])?.body)
    }

    /// The sum of a metric of one proxy over the series that contain all of `labels`.
    pub(crate) fn metric(
        &self,
        service: &str,
        name: &str,
        labels: &[&str],
    ) -> Result<f64, Failure> {
        sum(&self.metrics(service)?, name, labels)
    }
}

/// The sum of a metric in Prometheus text over the series that contain all of `labels`.
pub(crate) fn sum(text: &str, name: &str, labels: &[&str]) -> Result<f64, Failure> {
    let mut sum = 0.0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        if !rest.starts_with(['{', ' ']) || !labels.iter().all(|label| rest.contains(label)) {
            continue;
        }
        let value = rest.rsplit(' ').next().unwrap_or_default();
        sum += value.parse::<f64>()?;
    }
    Ok(sum)
}
