//! The ports of a Kubernetes `Service` and of its pods.

use crate::import::field::FieldRef;

/// Reports whether a Service has this port.
pub(super) fn has_port(service: FieldRef<'_>, port: u16) -> bool {
    let ports = service.get("spec").map(|spec| spec.list("ports"));
    ports.is_some_and(|mut ports| ports.any(|port_field| port_field.get_text("port") == Some(&port.to_string())))
}

/// Returns the pod port of a service port; `None` if the service does not give it as a number.
pub(super) fn target_port(service: FieldRef<'_>, port: u16) -> Option<u16> {
    let mut ports = service.get("spec")?.list("ports");
    let entry = ports.find(|port_field| port_field.get_text("port") == Some(&port.to_string()))?;
    entry.get_text("targetPort").map_or(Some(port), |target| target.parse().ok())
}
