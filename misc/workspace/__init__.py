"""What a run leaves on disk: whole files, the records of what made them, and their successors."""

from misc.workspace.curve import CURVE_HEADER, AddRow, TrainingCurve
from misc.workspace.fingerprints import NO_FILE, FileFingerprints
from misc.workspace.lock import RunLocks
from misc.workspace.records import Identity, Record, changed_settings, claim_record, demand_own
from misc.workspace.stored import ImageFolder, WeightsFile, identity_of_images
from misc.workspace.whole_files import (
    LONGEST_NAME,
    PARTIAL_SUFFIX,
    atomic_write,
    content_digest,
    digest,
    is_file_name,
    read_json,
    read_memory,
    remove_partial_files,
    stat_digest,
    write_json,
)

__all__ = [
    "CURVE_HEADER",
    "LONGEST_NAME",
    "NO_FILE",
    "PARTIAL_SUFFIX",
    "AddRow",
    "FileFingerprints",
    "Identity",
    "ImageFolder",
    "Record",
    "RunLocks",
    "TrainingCurve",
    "WeightsFile",
    "atomic_write",
    "changed_settings",
    "claim_record",
    "content_digest",
    "demand_own",
    "digest",
    "identity_of_images",
    "is_file_name",
    "read_json",
    "read_memory",
    "remove_partial_files",
    "stat_digest",
    "write_json",
]
