"""What one spot says, the white part of the field profiled out or integrated out there."""
