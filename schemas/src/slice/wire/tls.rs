//! TLS of listeners and of ports that are dialled.

use super::{Result, name, names, optional_name, unspecified};
use crate::canonical::{Wire, enumeration, invalid, set};
use crate::limits;
use crate::messages::bundle as wire;
use crate::slice::{ClientCertificate, ClientTls, ServerTls, TlsVersion};

impl Wire for ServerTls {
    type Message = wire::ServerTls;

    fn to_message(&self) -> wire::ServerTls {
        wire::ServerTls {
            certificate: self.certificate.clone(),
            trust: self.trust.clone().unwrap_or_default(),
            client: match self.client {
                ClientCertificate::None => wire::ClientCertificate::None,
                ClientCertificate::Optional => wire::ClientCertificate::Optional,
                ClientCertificate::Required => wire::ClientCertificate::Required,
            } as i32,
            min: version_to(self.min),
        }
    }

    fn from_message(message: wire::ServerTls) -> Result<Self> {
        let trust = optional_name("server_tls.trust", message.trust)?;
        let client = match enumeration("server_tls.client", message.client)? {
            wire::ClientCertificate::Unspecified => return unspecified("server_tls.client"),
            wire::ClientCertificate::None => ClientCertificate::None,
            wire::ClientCertificate::Optional => ClientCertificate::Optional,
            wire::ClientCertificate::Required => ClientCertificate::Required,
        };
        if client != ClientCertificate::None && trust.is_none() {
            return Err(invalid(
                "server_tls.trust",
                "client certificates without authorities",
            ));
        }
        Ok(Self {
            certificate: name("server_tls.certificate", message.certificate)?,
            trust,
            client,
            min: version_from("server_tls.min", message.min)?,
        })
    }
}

impl Wire for ClientTls {
    type Message = wire::ClientTls;

    fn to_message(&self) -> wire::ClientTls {
        wire::ClientTls {
            sni: self.sni.clone().unwrap_or_default(),
            sans: set(&self.sans),
            trust: self.trust.clone().unwrap_or_default(),
            certificate: self.certificate.clone().unwrap_or_default(),
            min: version_to(self.min),
        }
    }

    fn from_message(message: wire::ClientTls) -> Result<Self> {
        names("client_tls.sans", &message.sans, limits::IDENTITIES_MAX)?;
        Ok(Self {
            sni: optional_name("client_tls.sni", message.sni)?,
            sans: message.sans,
            trust: optional_name("client_tls.trust", message.trust)?,
            certificate: optional_name("client_tls.certificate", message.certificate)?,
            min: version_from("client_tls.min", message.min)?,
        })
    }
}

fn version_to(version: TlsVersion) -> i32 {
    match version {
        TlsVersion::V1_2 => wire::TlsVersion::TlsVersion12 as i32,
        TlsVersion::V1_3 => wire::TlsVersion::TlsVersion13 as i32,
    }
}

fn version_from(field: &'static str, version: i32) -> Result<TlsVersion> {
    Ok(match enumeration(field, version)? {
        wire::TlsVersion::Unspecified => return unspecified(field),
        wire::TlsVersion::TlsVersion12 => TlsVersion::V1_2,
        wire::TlsVersion::TlsVersion13 => TlsVersion::V1_3,
    })
}
