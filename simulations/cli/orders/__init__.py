"""What commands are told, and the codes that they exit with."""
