//! The metrics. No path, principal or secret is ever a label; a quota's mount and folder are, as the operator named them.

use std::{sync::Arc, time::Duration};

use strongroom_daemon::metrics::{
    HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, MetricsError, Registry,
};

use crate::model::QuotaUse;

/// 100 microseconds to 10 seconds: a read takes less than a millisecond, the deadline is 30 s.
const BOUNDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What the server measures of itself.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    shed: IntCounterVec,
    disk_free: IntGaugeVec,
    in_flight: IntGauge,
    audit_records: IntGauge,
    audit_groups: IntGauge,
    audit_suppressed: IntGauge,
    audit_writable: IntGauge,
    store_batches: IntGauge,
    store_writable: IntGauge,
    quota_limit: IntGaugeVec,
    quota_used: IntGaugeVec,
    leases: IntGaugeVec,
    leases_issued: IntCounterVec,
    leases_ended: IntCounterVec,
    lease_end_failures: IntCounter,
    overdue: IntGauge,
    unwrapped_again: IntCounter,
    sealed: IntGauge,
    connections: IntGauge,
    refused: IntCounterVec,
    certificate_expiry: IntGauge,
    clock_jumps: IntCounter,
    reload_failures: IntCounter,
    logins: IntCounterVec,
    kubernetes: KubernetesMetrics,
}

/// Metrics of all clusters. The label `cluster` is a name of the configuration.
#[derive(Clone)]
struct KubernetesMetrics {
    reviews: HistogramVec,
    reviews_in_flight: IntGaugeVec,
    reviews_cached: IntCounterVec,
    watching: IntGaugeVec,
    gone: IntCounterVec,
}

/// What is measured of one cluster.
#[derive(Clone)]
pub struct ClusterMetrics {
    cluster: Arc<str>,
    all: KubernetesMetrics,
}

/// Why a connection was not served. The label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many at once.
    TooMany,
    /// Too many of one address.
    TooManyOfAddress,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The handshake failed.
    Handshake,
    /// The system could not accept.
    Accept,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Refused::TooMany => "too_many",
            Refused::TooManyOfAddress => "too_many_of_address",
            Refused::HandshakeTimeout => "handshake_timeout",
            Refused::Handshake => "handshake",
            Refused::Accept => "accept",
        }
    }
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// Two metrics of one name: a fault of ours.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::default();
        let (counters, gauge) = (
            |name, help, labels: &[&str]| registry.counters(name, help, labels),
            |name, help| registry.gauge(name, help),
        );
        Ok(Self {
            requests: counters(
                "strongroom_requests_total",
                "Requests by RPC and gRPC code",
                &["rpc", "code"],
            )?,
            durations: registry.seconds_by(
                "strongroom_request_duration_seconds",
                "Request duration",
                BOUNDS,
                &["rpc"],
            )?,
            shed: counters(
                "strongroom_requests_shed_total",
                "Requests turned away because one caller asked too much, by what of",
                &["why"],
            )?,
            disk_free: registry.gauges(
                "strongroom_disk_free_bytes",
                "What can still be written where the audit log or the store is",
                &["of"],
            )?,
            in_flight: gauge("strongroom_requests_in_flight", "Requests in progress")?,
            audit_records: gauge("strongroom_audit_records", "Audit records written since the start")?,
            audit_groups: gauge(
                "strongroom_audit_groups",
                "Groups they were written in, each with one write and one sync",
            )?,
            audit_suppressed: gauge(
                "strongroom_audit_suppressed",
                "Refusals of unknown callers that were counted instead of written one by one",
            )?,
            audit_writable: gauge("strongroom_audit_writable", "0 while nothing can be answered")?,
            store_batches: gauge("strongroom_store_batches", "Number of the last durable batch")?,
            store_writable: gauge(
                "strongroom_store_writable",
                "0 while the store only takes what takes rights or data away, because its disk is nearly full",
            )?,
            quota_limit: registry.gauges(
                "strongroom_quota_limit_bytes",
                "What may be kept in a mount, or below a folder of it, that has a quota",
                &["mount", "folder"],
            )?,
            quota_used: registry.gauges(
                "strongroom_quota_used_bytes",
                "What is kept there; counted from the first write on",
                &["mount", "folder"],
            )?,
            leases: registry.gauges(
                "strongroom_leases",
                "What was issued and has to end: live, being ended, or stuck after several attempts",
                &["state"],
            )?,
            leases_issued: counters("strongroom_leases_issued_total", "Leases issued by mount", &["mount"])?,
            leases_ended: counters("strongroom_leases_ended_total", "Leases ended, by why", &["cause"])?,
            lease_end_failures: registry.counter(
                "strongroom_lease_end_failures_total",
                "Attempts to end a lease that failed and are made again",
            )?,
            unwrapped_again: registry.counter(
                "strongroom_unwrapped_again_total",
                "Wrapped answers that somebody wanted to open after they were opened",
            )?,
            overdue: gauge(
                "strongroom_overdue",
                "What engines had to do by themselves, such as another password for an account, and could not",
            )?,
            sealed: gauge("strongroom_sealed", "1 while the server has no keys")?,
            connections: gauge("strongroom_connections", "Open TLS connections")?,
            refused: counters("strongroom_connections_refused_total", "Connections not served", &["why"])?,
            certificate_expiry: gauge(
                "strongroom_tls_certificate_expiry_seconds",
                "End of the served certificate, in seconds since the Unix epoch",
            )?,
            reload_failures: registry
                .counter("strongroom_certificate_reload_failures_total", "Broken certificate files")?,
            logins: counters(
                "strongroom_logins_total",
                "Logins by method and result",
                &["method", "result"],
            )?,
            clock_jumps: registry.counter(
                "strongroom_clock_jumps_total",
                "Times that the clock was found set, forwards or back",
            )?,
            kubernetes: KubernetesMetrics::new(&registry)?,
            registry,
        })
    }

    /// A request came in.
    pub fn request_started(&self) {
        self.in_flight.inc();
    }

    /// A request was answered, or its caller went away.
    pub fn request_ended(&self) {
        self.in_flight.dec();
    }

    /// Requests that came in and are not answered.
    pub fn requests_at_work(&self) -> i64 {
        self.in_flight.get()
    }

    /// It was answered. `rpc` and `code` are names of ours, never what a client sent.
    pub fn request_answered(&self, rpc: &'static str, code: &'static str, took: Duration) {
        self.requests.with_label_values(&[rpc, code]).inc();
        self.durations.with_label_values(&[rpc]).observe(took.as_secs_f64());
    }

    /// A request was turned away because its caller asked too much. `why` is a name of ours.
    pub fn request_shed(&self, why: &'static str) {
        self.shed.with_label_values(&[why]).inc();
    }

    /// What can still be written, where `of` is kept.
    pub fn set_disk_free(&self, of: &'static str, bytes: u64) {
        self.disk_free.with_label_values(&[of]).set(bytes.try_into().unwrap_or(i64::MAX));
    }

    /// The audit log, as it is when somebody asks.
    pub fn set_audit(&self, records: u64, groups: u64, suppressed: u64, writable: bool) {
        self.audit_records.set(records.try_into().unwrap_or(i64::MAX));
        self.audit_groups.set(groups.try_into().unwrap_or(i64::MAX));
        self.audit_suppressed.set(suppressed.try_into().unwrap_or(i64::MAX));
        self.audit_writable.set(writable.into());
    }

    /// The store, as it is when somebody asks.
    pub fn set_store_batches(&self, batches: u64) {
        self.store_batches.set(batches.try_into().unwrap_or(i64::MAX));
    }

    /// The server lost or got its keys.
    pub fn set_sealed(&self, sealed: bool) {
        self.sealed.set(sealed.into());
    }

    /// A connection is served from now on.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// A connection is not served.
    pub fn connection_refused(&self, why: Refused) {
        self.refused.with_label_values(&[why.as_str()]).inc();
    }

    /// Whether everything can be written.
    pub fn set_store_writable(&self, writable: bool) {
        self.store_writable.set(writable.into());
    }

    /// How many leases live, are being ended, or could not be ended after several attempts.
    pub fn set_leases(&self, live: usize, ending: usize, stuck: usize) {
        for (state, count) in [("live", live), ("ending", ending), ("stuck", stuck)] {
            self.leases.with_label_values(&[state]).set(count.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Something was issued at a mount. Its name is the operator's.
    pub fn lease_issued(&self, mount: &str) {
        self.leases_issued.with_label_values(&[mount]).inc();
    }

    /// What was issued is unmade.
    pub fn lease_ended(&self, cause: &str) {
        self.leases_ended.with_label_values(&[cause]).inc();
    }

    /// It could not be unmade this time.
    pub fn lease_end_failed(&self) {
        self.lease_end_failures.inc();
    }

    /// A wrapped answer was opened before: one of the two should not have it.
    pub fn unwrapped_again(&self) {
        self.unwrapped_again.inc();
    }

    /// How much of what engines have to do by themselves failed when it was tried last.
    pub fn set_overdue(&self, count: usize) {
        self.overdue.set(count.try_into().unwrap_or(i64::MAX));
    }

    /// The quotas there are, and how much of each is used. Their names are the operator's, not those of secrets.
    pub fn set_quotas(&self, quotas: Vec<(Box<str>, QuotaUse)>) {
        self.quota_limit.reset();
        self.quota_used.reset();
        for (mount, quota) in quotas {
            let place = [&*mount, &*quota.folder];
            self.quota_limit.with_label_values(&place).set(quota.limit.try_into().unwrap_or(i64::MAX));
            if let Some(held) = quota.held {
                self.quota_used.with_label_values(&place).set(held.try_into().unwrap_or(i64::MAX));
            }
        }
    }

    /// When the served certificate ends.
    pub fn set_certificate_expiry(&self, unix_seconds: i64) {
        self.certificate_expiry.set(unix_seconds);
    }

    /// New certificate files are broken.
    pub fn certificate_reload_failed(&self) {
        self.reload_failures.inc();
    }

    /// The clock was set.
    pub fn clock_jumped(&self) {
        self.clock_jumps.inc();
    }

    /// Somebody wanted to log in. `method` and `result` are names of ours.
    pub fn login_judged(&self, method: &'static str, result: &'static str) {
        self.logins.with_label_values(&[method, result]).inc();
    }

    /// For a configured cluster.
    pub fn cluster(&self, name: &str) -> ClusterMetrics {
        ClusterMetrics { cluster: name.into(), all: self.kubernetes.clone() }
    }

    /// All of it in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.registry.render()
    }
}

impl KubernetesMetrics {
    fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            reviews: registry.seconds_by(
                "strongroom_kubernetes_review_seconds",
                "Token reviews by result",
                BOUNDS,
                &["cluster", "result"],
            )?,
            reviews_in_flight: registry.gauges(
                "strongroom_kubernetes_reviews_in_flight",
                "Token reviews under way",
                &["cluster"],
            )?,
            reviews_cached: registry.counters(
                "strongroom_kubernetes_reviews_cached_total",
                "Logins that needed no review of their own",
                &["cluster"],
            )?,
            watching: registry.gauges(
                "strongroom_kubernetes_watching",
                "1 while deleted ones are noticed at once",
                &["cluster", "what"],
            )?,
            gone: registry.counters(
                "strongroom_kubernetes_gone_refused_total",
                "Requests refused because the pod or account is gone",
                &["cluster"],
            )?,
        })
    }
}

impl ClusterMetrics {
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// A token review begins; it is under way until what is returned is dropped.
    pub fn review_started(&self) -> impl Drop + Send + use<> {
        let gauge = self.all.reviews_in_flight.with_label_values(&[&*self.cluster]);
        gauge.inc();
        InFlight(gauge)
    }

    /// It is answered. `result` is a name of ours.
    pub fn review_ended(&self, result: &'static str, took: Duration) {
        self.all.reviews.with_label_values(&[&*self.cluster, result]).observe(took.as_secs_f64());
    }

    /// A login needed no review of its own.
    pub fn review_cached(&self) {
        self.all.reviews_cached.with_label_values(&[&*self.cluster]).inc();
    }

    /// Whether deleted ones of a kind are noticed at once.
    pub fn set_watching(&self, what: &'static str, watching: bool) {
        self.all.watching.with_label_values(&[&*self.cluster, what]).set(watching.into());
    }

    /// A request was refused because its pod or account is gone.
    pub fn gone_refused(&self) {
        self.all.gone.with_label_values(&[&*self.cluster]).inc();
    }
}

/// Counted until it is dropped.
struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_measured() {
        let metrics = Metrics::new().unwrap();
        metrics.request_started();
        metrics.request_answered("Secrets.Get", "NOT_FOUND", Duration::from_millis(2));
        metrics.request_ended();
        metrics.set_audit(3, 1, 0, true);
        metrics.set_store_batches(7);
        metrics.set_sealed(true);
        metrics.connection_refused(Refused::Handshake);
        let text = metrics.render();
        for line in [
            "strongroom_requests_total{code=\"NOT_FOUND\",rpc=\"Secrets.Get\"} 1",
            "strongroom_requests_in_flight 0",
            "strongroom_audit_records 3",
            "strongroom_store_batches 7",
            "strongroom_sealed 1",
            "strongroom_connections_refused_total{why=\"handshake\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
