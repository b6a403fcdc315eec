//! Key material of the gateways: what the user gives, and for what is not given a certificate that this
//! machine alone believes. None of it is ever in the repository.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::plan::Plan;
use super::{DevError, make_folder};

/// Given and made key material.
#[derive(Debug)]
pub(super) struct Secrets {
    given: BTreeMap<String, PathBuf>,
    /// Of what is made.
    folder: PathBuf,
    made: BTreeMap<String, (Vec<String>, PathBuf)>,
    quiet: bool,
}

impl Secrets {
    /// With what the user gives.
    pub(super) fn new(given: &[(String, PathBuf)], folder: PathBuf, quiet: bool) -> Self {
        Self {
            given: given.iter().cloned().collect(),
            folder,
            made: BTreeMap::new(),
            quiet,
        }
    }

    /// What each gateway is given, by gateway and name; certificates that are missing are made.
    pub(super) fn of(
        &mut self,
        plan: &Plan,
    ) -> Result<BTreeMap<String, BTreeMap<String, PathBuf>>, DevError> {
        let mut secrets: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
        for (service, planned) in &plan.services {
            for (name, hosts) in &planned.certificates {
                let file = match self.given.get(name) {
                    Some(file) => file.clone(),
                    None => self.made(name, hosts)?,
                };
                secrets
                    .entry(service.clone())
                    .or_default()
                    .insert(name.clone(), file);
            }
            for name in &planned.other_secrets {
                if let Some(file) = self.given.get(name) {
                    secrets
                        .entry(service.clone())
                        .or_default()
                        .insert(name.clone(), file.clone());
                }
            }
        }
        Ok(secrets)
    }

    fn made(&mut self, name: &str, hosts: &[String]) -> Result<PathBuf, DevError> {
        if let Some((for_hosts, file)) = self.made.get(name)
            && for_hosts == hosts
        {
            return Ok(file.clone());
        }
        make_folder(&self.folder)?;
        let file = self.folder.join(format!("{name}.pem"));
        let text = certificate(name, hosts)
            .map_err(|error| DevError::Arguments(format!("no certificate {name}: {error}")))?;
        write(&file, &text).map_err(|error| DevError::Io("cannot write a certificate", error))?;
        if !self.quiet {
            crate::output::message(&format!(
                "no --secret {name}=FILE: made a self-signed development certificate for {}, {}",
                hosts.join(" "),
                file.display()
            ));
        }
        self.made
            .insert(name.to_owned(), (hosts.to_vec(), file.clone()));
        Ok(file)
    }
}

/// Chain and key in one PEM text. `**` has no form in a certificate; one label has.
fn certificate(name: &str, hosts: &[String]) -> Result<String, rcgen::Error> {
    let names = hosts.iter().map(|host| match host.as_str() {
        "**" | "*" => "localhost".to_owned(),
        host => host.replace("**.", "*."),
    });
    let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("meshd dev {name}"));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut open = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    open.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::plan::PlannedService;
    use super::*;

    #[test]
    fn what_is_not_given_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let given = [("paid-cert".to_owned(), PathBuf::from("/keys/paid.pem"))];
        let mut secrets = Secrets::new(&given, folder.path().join("secrets"), true);
        let gateway = |hosts: &[&str]| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let mut plan = Plan::default();
            let planned = PlannedService {
                is_gateway: true,
                certificates: [
                    ("paid-cert".to_owned(), hosts.clone()),
                    ("shop-cert".to_owned(), hosts),
                ]
                .into(),
                ..PlannedService::default()
            };
            plan.services.insert("public".to_owned(), planned);
            plan
        };
        let first = secrets
            .of(&gateway(&["shop.example", "**.api.example"]))
            .unwrap();
        let files = &first["public"];
        assert_eq!(files["paid-cert"], PathBuf::from("/keys/paid.pem"));
        let text = std::fs::read_to_string(&files["shop-cert"]).unwrap();
        assert!(text.contains("BEGIN CERTIFICATE") && text.contains("BEGIN PRIVATE KEY"));
        let again = secrets
            .of(&gateway(&["shop.example", "**.api.example"]))
            .unwrap();
        assert_eq!(first, again);
        assert_eq!(std::fs::read_to_string(&files["shop-cert"]).unwrap(), text);
        drop(secrets.of(&gateway(&["other.example"])).unwrap());
        assert_ne!(std::fs::read_to_string(&files["shop-cert"]).unwrap(), text);
    }
}
