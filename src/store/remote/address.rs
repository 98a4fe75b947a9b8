//! Where a shared cache is, and what opens its door.

use std::fmt;
use std::path::{Path, PathBuf};

/// A folder, or a part of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A folder, mostly of a network file system.
    Folder(PathBuf),
    /// `s3://BUCKET/PREFIX`
    Bucket {
        /// The bucket.
        bucket: String,
        /// What the names of all files begin with, without `/` at its ends; may be empty.
        prefix: String,
    },
}

impl Address {
    /// Reads `s3://bucket/prefix`, `file:///folder` or the path of a folder, which is relative to `base`.
    ///
    /// # Errors
    /// What is wrong with it. The text is not in the message: it might hold a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.is_empty() {
                true => Err("a shared cache is a folder or `s3://bucket/prefix`, not an empty text".to_string()),
                false => Ok(Self::Folder(base.join(text))),
            };
        };
        match scheme {
            "s3" => bucket(rest),
            "file" if rest.starts_with('/') => Ok(Self::Folder(PathBuf::from(rest))),
            "file" => Err("a `file://` address needs the whole path: `file:///mnt/cache`".to_string()),
            _ => Err(format!("`{scheme}://` is no shared cache that titer knows: a folder or `s3://bucket/prefix`")),
        }
    }
}

fn bucket(rest: &str) -> Result<Address, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if rest.contains('@') {
        return Err("keys do not belong into an address: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_string());
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if bucket.is_empty() || !bucket.bytes().all(is_name) {
        return Err(format!("`{bucket}` is no name of a bucket: `s3://bucket/prefix` is expected"));
    }
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("`{prefix}` is no prefix of names: it has an empty part, `.` or `..`"));
    }
    Ok(Address::Bucket { bucket: bucket.to_string(), prefix: prefix.to_string() })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The `AWS_…` variables of the environment. They are handed on and never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(Vec<(String, String)>);

/// Variables whose values must not be seen.
const SECRETS: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SSE_CUSTOMER_KEY_BASE64"];

impl Credentials {
    /// From variables by name; others than `AWS_…` are left out.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_meant = |(name, value): &(String, String)| name.starts_with("AWS_") && !value.is_empty();
        Self(variables.into_iter().filter(is_meant).collect())
    }

    /// All of them.
    #[cfg(feature = "s3")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One of them.
    #[cfg(feature = "s3")]
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A message without what must not be seen, which servers like to repeat in their answers.
    pub(super) fn mask(&self, text: &str) -> String {
        let secrets = self.0.iter().filter(|(name, _)| SECRETS.contains(&name.as_str()));
        let masked = secrets.fold(text.to_string(), |text, (_, secret)| text.replace(secret.as_str(), "***"));
        without_passwords(&masked)
    }
}

/// Takes what stands between `://` and `@` out of addresses.
fn without_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut masked = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let host = part.find(['/', ' ', '"', ')']).unwrap_or(part.len());
        let rest = part[..host].rfind('@').map_or(part.to_string(), |at| format!("***{}", &part[at..]));
        masked.push_str("://");
        masked.push_str(&rest);
    }
    masked
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_tuple("Credentials").field(&names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        Address::parse(text, Path::new("/project")).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_folders_or_buckets() {
        assert_eq!(parse("s3://lab/titer/").as_deref(), Ok("s3://lab/titer"));
        assert_eq!(parse("s3://lab").as_deref(), Ok("s3://lab"));
        assert_eq!(parse("../cache").as_deref(), Ok("/project/../cache"));
        assert_eq!(parse("/mnt/cache").as_deref(), Ok("/mnt/cache"));
        assert_eq!(parse("file:///mnt/cache").as_deref(), Ok("/mnt/cache"));
        for (text, expected) in [
            ("", "empty"),
            ("s3://", "no name of a bucket"),
            ("s3:///x", "no name of a bucket"),
            ("s3://a b", "no name of a bucket"),
            ("s3://lab/a/../b", "no prefix"),
            ("gs://lab", "`gs://` is no shared cache"),
            ("file://mnt", "whole path"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_in_an_address_is_refused_and_not_repeated() {
        let error = parse("s3://AKIAXYZ:hidden@lab/x").unwrap_err();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY") && !error.contains("hidden") && !error.contains("AKIA"));
    }

    #[test]
    fn secrets_are_masked() {
        let variable = |name: &str, value: &str| (name.to_string(), value.to_string());
        let credentials = Credentials::new([
            variable("AWS_ACCESS_KEY_ID", "AKIAXYZ"),
            variable("AWS_SECRET_ACCESS_KEY", "hidden"),
            variable("AWS_SESSION_TOKEN", ""),
            variable("HOME", "/root"),
        ]);
        let text = "<Id>AKIAXYZ</Id> with hidden at (http://me:word@host:9/b/c@d), http://other/x@y";
        assert_eq!(credentials.mask(text), "<Id>***</Id> with *** at (http://***@host:9/b/c@d), http://other/x@y");
        assert_eq!(format!("{credentials:?}"), r#"Credentials(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])"#);
    }
}
