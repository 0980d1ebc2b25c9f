//! Files in a guest, and the frames of a copy over a websocket.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file in a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathInfo {
    /// Whether it exists.
    pub exists: bool,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a plain file.
    pub is_file: bool,
    /// Whether it is a symbolic link.
    pub is_symlink: bool,
    /// Target of a symbolic link; else empty.
    pub link_target: Option<String>,
    /// Permissions.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Reason why it cannot be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// First frame of a copy, from the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// Direction, seen from the client.
    pub direction: Direction,
    /// Path in the guest.
    pub guest_path: String,
    /// Whether a directory is made.
    #[serde(default)]
    pub is_dir: bool,
    /// Permissions of what is made; 0 for the default.
    #[serde(default)]
    pub mode: u32,
    /// Owner of what is made.
    #[serde(default)]
    pub uid: u32,
    /// Group of what is made.
    #[serde(default)]
    pub gid: u32,
    /// Whether a link is followed that the path itself is.
    #[serde(default)]
    pub follow_links: bool,
}

/// Direction of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the guest.
    To,
    /// From the guest.
    From,
}

/// Control frame of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum CopyFrame {
    /// A file begins.
    Header(FileHeader),
    /// A file ends.
    End {
        /// Whether it was the last one; clients leave it out.
        #[serde(default, rename = "final")]
        is_final: bool,
    },
    /// Result of a copy to the guest.
    Result {
        /// Whether it succeeded.
        success: bool,
        /// Reason why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Number of bytes written.
        bytes_written: u64,
    },
    /// The copy has failed.
    Error {
        /// Reason.
        message: String,
        /// Path in the guest.
        path: String,
    },
}

/// File of a copy from a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// Relative path, which begins with the last part of the copied path.
    pub path: String,
    /// Permissions, without the bits above 0777.
    pub mode: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a symbolic link.
    pub is_symlink: bool,
    /// Target of a symbolic link.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link_target: String,
    /// Number of bytes that follow.
    pub size: u64,
    /// When it was changed, in seconds since 1970.
    pub mtime: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_are_upstream_s() {
        let text = |frame: &CopyFrame| serde_json::to_string(frame).unwrap();
        assert_eq!(text(&CopyFrame::End { is_final: true }), r#"{"type":"end","final":true}"#);
        let result = CopyFrame::Result { success: true, error: None, bytes_written: 3 };
        assert_eq!(text(&result), r#"{"type":"result","success":true,"bytes_written":3}"#);
        let end: CopyFrame = serde_json::from_str(r#"{"type":"end"}"#).unwrap();
        assert_eq!(end, CopyFrame::End { is_final: false });
        let request: CopyRequest =
            serde_json::from_str(r#"{"direction":"from","guest_path":"/x","follow_links":true}"#).unwrap();
        assert_eq!((request.direction, request.follow_links, request.mode), (Direction::From, true, 0));
    }
}
