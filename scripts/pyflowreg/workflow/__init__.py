"""What only workflow jobs need: job context and resource estimates."""
