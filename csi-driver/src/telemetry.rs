//! The metrics. No path, principal or secret is ever a label; the namespaces and the names of pods are.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use strongroom_daemon::metrics::{
    Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, MetricsError, Registry,
};

/// Half a millisecond (writing a few files) to 100 seconds (the patience of a first publish).
const BOUNDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 100.0];

/// What the driver was doing when something failed. The label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Publish,
    /// New content for a mounted volume.
    Refresh,
    /// The end of a volume.
    Unpublish,
    /// A call of the Secrets Store CSI driver.
    Provide,
}

impl Doing {
    pub fn as_str(self) -> &'static str {
        match self {
            Doing::Publish => "publish",
            Doing::Refresh => "refresh",
            Doing::Unpublish => "unpublish",
            Doing::Provide => "provide",
        }
    }
}

/// The volumes as numbers.
#[derive(Default)]
pub struct Summary {
    pub mounted: usize,
    /// Those in trouble.
    pub abnormal: usize,
    /// For how long the content of the worst has not been known to be current.
    pub stale: Duration,
    /// Those in trouble by namespace and reason.
    pub troubled: BTreeMap<(String, &'static str), usize>,
    /// By namespace and name of a pod: when the newest of its mounted versions was written.
    pub newest: BTreeMap<(String, String), Timestamp>,
}

/// What the driver measures of itself.
pub struct Metrics {
    registry: Registry,
    publishes: IntCounter,
    republishes: IntCounter,
    unpublishes: IntCounter,
    refreshes: IntCounterVec,
    provided: IntCounter,
    failures: IntCounterVec,
    logins: IntCounter,
    pod_events: IntCounterVec,
    volumes: IntGauge,
    abnormal: IntGauge,
    stale: IntGauge,
    troubled: IntGaugeVec,
    newest: IntGaugeVec,
    registered: IntGauge,
    publish_seconds: Histogram,
    write_seconds: Histogram,
    change_seconds: Histogram,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// Two metrics of one name: a fault of ours.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::default();
        let (counter, gauge) =
            (|name, help| registry.counter(name, help), |name, help| registry.gauge(name, help));
        let seconds = |name, help| registry.seconds(name, help, BOUNDS);
        Ok(Self {
            publishes: counter("strongroom_csi_publishes_total", "Volumes mounted")?,
            republishes: counter(
                "strongroom_csi_republishes_total",
                "Calls of the kubelet for mounted volumes",
            )?,
            unpublishes: counter("strongroom_csi_unpublishes_total", "Volumes removed")?,
            refreshes: registry.counters(
                "strongroom_csi_refreshes_total",
                "Mounted volumes read again, by whether anything was new",
                &["content"],
            )?,
            provided: counter(
                "strongroom_csi_provided_total",
                "Mounts served for the Secrets Store CSI driver",
            )?,
            failures: registry.counters(
                "strongroom_csi_failures_total",
                "What failed, by what was being done and why",
                &["doing", "reason"],
            )?,
            logins: counter("strongroom_csi_logins_total", "Sessions opened for pods")?,
            pod_events: registry.counters(
                "strongroom_csi_pod_events_total",
                "Events on pods, by whether they were written, failed or were too many",
                &["outcome"],
            )?,
            volumes: gauge("strongroom_csi_volumes", "Volumes mounted now")?,
            abnormal: gauge(
                "strongroom_csi_volumes_abnormal",
                "Mounted volumes whose content may be outdated, or whose secrets are gone",
            )?,
            stale: gauge(
                "strongroom_csi_oldest_content_seconds",
                "For how long the most outdated mounted volume has not been known to be current; 0 while all are",
            )?,
            troubled: registry.gauges(
                "strongroom_csi_volumes_troubled",
                "The abnormal volumes, by the namespace of their pods and by what is wrong",
                &["pod_namespace", "reason"],
            )?,
            newest: registry.gauges(
                "strongroom_csi_newest_version_timestamp_seconds",
                "When the newest version of a secret that a pod has mounted was written",
                &["pod_namespace", "pod_name"],
            )?,
            registered: gauge("strongroom_csi_registered", "1 once the kubelet has registered the driver")?,
            publish_seconds: seconds(
                "strongroom_csi_publish_seconds",
                "From the kubelet's call to the mounted volume, waiting for the server included",
            )?,
            write_seconds: seconds(
                "strongroom_csi_mount_seconds",
                "The part of a publish that is the driver's own: tmpfs, files, state, mount",
            )?,
            change_seconds: seconds(
                "strongroom_csi_change_seconds",
                "From the news of a changed secret to its new content on the pod's disk",
            )?,
            registry,
        })
    }

    /// A volume is mounted; `own` is what of it was not waiting for the server.
    pub fn published(&self, took: Duration, own: Duration) {
        self.publishes.inc();
        self.publish_seconds.observe(took.as_secs_f64());
        self.write_seconds.observe(own.as_secs_f64());
    }

    /// The kubelet asked for a volume that is mounted.
    pub fn republished(&self) {
        self.republishes.inc();
    }

    /// A volume is gone.
    pub fn unpublished(&self) {
        self.unpublishes.inc();
    }

    /// A mounted volume was read again.
    pub fn refreshed(&self, changed: bool) {
        self.refreshes.with_label_values(&[if changed { "new" } else { "same" }]).inc();
    }

    /// A change that was told reached the disk.
    pub fn change_on_disk(&self, took: Duration) {
        self.change_seconds.observe(took.as_secs_f64());
    }

    /// A mount for the Secrets Store CSI driver was served.
    pub fn provided(&self) {
        self.provided.inc();
    }

    /// `reason` is a name of ours, never what somebody sent.
    pub fn failed(&self, doing: Doing, reason: &'static str) {
        self.failures.with_label_values(&[doing.as_str(), reason]).inc();
    }

    /// A session was opened.
    pub fn logged_in(&self) {
        self.logins.inc();
    }

    /// An event on a pod: `written`, `failed` or `dropped`.
    pub fn pod_event(&self, outcome: &'static str) {
        self.pod_events.with_label_values(&[outcome]).inc();
    }

    /// The kubelet has said how registration went.
    pub fn set_registered(&self, registered: bool) {
        self.registered.set(registered.into());
    }

    /// The volumes, as they are when somebody asks.
    pub fn set_volumes(&self, summary: &Summary) {
        let Summary { mounted, abnormal, stale, troubled, newest } = summary;
        let (mounted, abnormal) = (*mounted, *abnormal);
        // What is well again is no zero for ever.
        self.troubled.reset();
        for ((namespace, reason), count) in troubled {
            let gauge = self.troubled.with_label_values(&[namespace.as_str(), reason]);
            gauge.set((*count).try_into().unwrap_or(i64::MAX));
        }
        self.newest.reset();
        for ((namespace, pod), written) in newest {
            self.newest.with_label_values(&[namespace, pod]).set(written.as_second());
        }
        self.volumes.set(mounted.try_into().unwrap_or(i64::MAX));
        self.abnormal.set(abnormal.try_into().unwrap_or(i64::MAX));
        self.stale.set(stale.as_secs().try_into().unwrap_or(i64::MAX));
    }

    /// All of it in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.registry.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_measured() {
        let metrics = Metrics::new().unwrap();
        metrics.published(Duration::from_millis(12), Duration::from_millis(2));
        metrics.failed(Doing::Refresh, "denied");
        metrics.refreshed(true);
        let troubled = [(("payments".to_owned(), "denied"), 1)].into();
        let stale = Duration::from_secs(70);
        let newest =
            [(("payments".to_owned(), "web-1".to_owned()), Timestamp::from_second(90).unwrap())].into();
        metrics.set_volumes(&Summary { mounted: 3, abnormal: 1, stale, troubled, newest });
        let text = metrics.render();
        for line in [
            "strongroom_csi_publishes_total 1",
            "strongroom_csi_failures_total{doing=\"refresh\",reason=\"denied\"} 1",
            "strongroom_csi_refreshes_total{content=\"new\"} 1",
            "strongroom_csi_volumes 3",
            "strongroom_csi_volumes_troubled{pod_namespace=\"payments\",reason=\"denied\"} 1",
            "strongroom_csi_oldest_content_seconds 70",
            "strongroom_csi_newest_version_timestamp_seconds{pod_name=\"web-1\",pod_namespace=\"payments\"} 90",
            "strongroom_csi_publish_seconds_bucket{le=\"0.025\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
