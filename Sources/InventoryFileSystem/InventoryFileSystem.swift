// InventoryFileSystem
