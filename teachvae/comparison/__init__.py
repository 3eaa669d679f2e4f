"""The routes side by side: one table, its tasks, its ledger and its report."""
