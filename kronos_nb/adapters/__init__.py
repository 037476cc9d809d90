"Kronos with the face of other libraries: each an optional extra, and imported only when it is asked for."
