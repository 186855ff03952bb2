package parts

const Teeth = 12
