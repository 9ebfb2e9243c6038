//! The names and dates of a certificate, for warnings, metrics, the live page and `tunnel-relay check`.

use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

/// Longest time before its end at which a certificate ends soon; short ones do in the last sixth of their time.
const SOON: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The part of a certificate that an operator minds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// From when on it is good.
    pub not_before: SystemTime,
    /// Until when it is good.
    pub not_after: SystemTime,
}

/// The reason why browsers don't take a certificate, or soon won't.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// It is for later, or the clock is wrong.
    #[error("the certificate is not good before {from}: is this machine's clock right?")]
    NotYet {
        /// From when on it is good.
        from: String,
    },
    /// It is over.
    #[error("the certificate has expired: it was good until {until}")]
    Expired {
        /// Until when it was good.
        until: String,
    },
    /// It ends soon, and nothing has renewed it.
    #[error("the certificate ends soon: it is good until {until}")]
    EndsSoon {
        /// Until when it is good.
        until: String,
    },
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// It is none; the text says why.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("it is no certificate: {error}"))?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        let validity = certificate.validity();
        Ok(Self {
            names: names.collect(),
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        })
    }

    /// The day and time of its end.
    #[must_use]
    pub fn until(&self) -> String {
        date(self.not_after)
    }

    /// The problem that it has now, if any.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        self.problem_at(SystemTime::now())
    }

    fn problem_at(&self, now: SystemTime) -> Option<Problem> {
        let lifetime = self.not_after.duration_since(self.not_before).unwrap_or_default();
        let left = self.not_after.duration_since(now);
        if now < self.not_before {
            Some(Problem::NotYet { from: date(self.not_before) })
        } else if left.is_err() {
            Some(Problem::Expired { until: self.until() })
        } else if left.is_ok_and(|left| left < SOON.min(lifetime / 6)) {
            Some(Problem::EndsSoon { until: self.until() })
        } else {
            None
        }
    }

    /// Seconds from 1970 to its end.
    pub(crate) fn not_after_seconds(&self) -> u64 {
        self.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(bytes).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string())
}

/// Times before 1970 are all the same here, and none are after the year 9999.
fn time(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
}

fn date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_soon_in_the_last_sixth_of_its_time_and_not_before_the_last_month() {
        const DAY: u64 = 24 * 3_600;
        for (days, day, expected) in [
            // A second before the end of that day of so many.
            (90, 0, "not good before"),
            (90, 1, ""),
            (90, 74, ""),
            (90, 76, "ends soon"),
            (90, 90, "ends soon"),
            (90, 91, "has expired"),
            (6, 4, ""),
            (6, 6, "ends soon"),
            (3_650, 3_600, ""),
            (3_650, 3_630, "ends soon"),
        ] {
            let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            let not_after = start + Duration::from_secs(days * DAY);
            let certificate = Certificate { names: Vec::new(), not_before: start, not_after };
            let since = Duration::from_secs(DAY * u64::try_from(day + 1).unwrap()) - Duration::from_secs(1);
            let now = start + since - Duration::from_secs(DAY);
            let problem = certificate.problem_at(now).map(|problem| problem.to_string()).unwrap_or_default();
            assert!(
                problem.contains(expected) && problem.is_empty() == expected.is_empty(),
                "{days} {day}: {problem}"
            );
        }
    }
}
