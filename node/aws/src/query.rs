//! The AWS Query protocol, which STS and IAM speak: a form goes in (`Action`, `Version`, members with dotted names),
//! XML comes out.

mod form;
mod xml;

pub use form::{MalformedForm, Request, parse};
pub use xml::{CONTENT_TYPE, error, reply};

use crate::Service;

/// The namespace a service's XML carries: clients do not check it, tools that validate do.
pub(crate) fn namespace(service: Service) -> &'static str {
    match service {
        Service::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        Service::Ecr | Service::Flotilla | Service::SecretsManager => "https://ecr.amazonaws.com/doc/2015-09-21/",
    }
}

/// The service that an API version belongs to: what the Query protocol has instead of a target.
pub fn service_of_version(version: &str) -> Option<Service> {
    match version {
        "2011-06-15" => Some(Service::Sts),
        _ => None,
    }
}
