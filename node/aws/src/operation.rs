use serde::{Serialize, de::DeserializeOwned};

use crate::validate::InvalidParameter;

/// A family of operations with a signing name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Ecr,
    Flotilla,
    SecretsManager,
    Sts,
}

impl Service {
    pub const ALL: [Self; 4] = [Self::Ecr, Self::Flotilla, Self::SecretsManager, Self::Sts];

    /// What stands before the dot in `X-Amz-Target`.
    pub const fn target_prefix(self) -> &'static str {
        match self {
            Self::Ecr => "AmazonEC2ContainerRegistry_V20150921",
            Self::Flotilla => "Flotilla_20261101",
            Self::SecretsManager => "secretsmanager",
            Self::Sts => "AWSSecurityTokenServiceV20110615",
        }
    }

    /// The service in a signature's scope, and before the colon of an action (`ecr:ListImages`).
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Flotilla => "flotilla",
            Self::SecretsManager => "secretsmanager",
            Self::Sts => "sts",
        }
    }

    /// The service and operation that a value of `X-Amz-Target` names; `None` when the service is not served here.
    pub fn of_target(target: &str) -> Option<(Self, &str)> {
        let (prefix, operation) = target.split_once('.')?;
        Self::ALL.into_iter().find(|service| service.target_prefix() == prefix).map(|service| (service, operation))
    }
}

/// One call of the contract.
pub trait Operation: Send + Sync + 'static {
    const SERVICE: Service;
    const NAME: &'static str;
    type Input: Serialize + DeserializeOwned + Send + Sync;
    type Output: Serialize + DeserializeOwned + Send + Sync;

    /// Holds the input against the contract's constraints: everything that can be said without knowing any state.
    ///
    /// # Errors
    /// The first member, in the order of the contract, that breaks a constraint.
    fn check(_input: &Self::Input) -> Result<(), InvalidParameter> {
        Ok(())
    }

    /// The value of `X-Amz-Target` for this operation.
    fn target() -> String {
        format!("{}.{}", Self::SERVICE.target_prefix(), Self::NAME)
    }
}

/// Declares an operation: its unit struct and its row of the contract.
macro_rules! operation {
    ($(#[$doc:meta])* $service:ident :: $name:ident($input:ty) -> $output:ty $(, check = $check:expr)?) => {
        $(#[$doc])*
        pub struct $name;

        impl $crate::Operation for $name {
            const SERVICE: $crate::Service = $crate::Service::$service;
            const NAME: &'static str = stringify!($name);
            type Input = $input;
            type Output = $output;
            $(
                fn check(input: &$input) -> Result<(), $crate::validate::InvalidParameter> {
                    let check: fn(&$input) -> Result<(), $crate::validate::InvalidParameter> = $check;
                    check(input)
                }
            )?
        }
    };
}
pub(crate) use operation;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_service_and_operation() {
        assert_eq!(
            Service::of_target("AmazonEC2ContainerRegistry_V20150921.ListImages"),
            Some((Service::Ecr, "ListImages"))
        );
        assert_eq!(Service::of_target("Flotilla_20261101.GetStatus"), Some((Service::Flotilla, "GetStatus")));
        for unknown in
            ["", "ListImages", "DynamoDB_20120810.GetItem", "amazonec2containerregistry_v20150921.ListImages"]
        {
            assert_eq!(Service::of_target(unknown), None, "{unknown}");
        }
    }
}
