"""What every card of a kind must hold, for any card: ours and those of a ``--registry``."""
