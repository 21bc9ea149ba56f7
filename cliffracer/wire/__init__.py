"""What goes over the wire: subjects, headers, codecs, errors. Pure: nothing here does I/O."""
